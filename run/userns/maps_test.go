package userns

import (
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

func TestParseSubordinate(t *testing.T) {
	text := "other:1:2\nme:100000:65536\n# c\nme:bad:1\n1000:300000:10\nme:4294967295:2\nme:5:0\n"
	want := []Extent{{1, 100000, 65536}, {65537, 300000, 10}}
	if got := parseSubordinate([]byte(text), "me", "1000"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if got := parseSubordinate([]byte(":1:2\n"), "", "1"); got != nil {
		t.Errorf("a nameless line was taken: %v", got)
	}
	if got := parseGetsubids([]byte("0: me 100000 65536\n1: me 300000 10\n")); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestIdentity(t *testing.T) {
	got, err := identity([]byte("         0       1000          1\n         1     100000      65536\n"))
	if err != nil || string(got) != "0 0 1\n1 1 65536\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := identity([]byte("0 1\n")); err == nil {
		t.Error("a damaged map was accepted")
	}
}

func TestFirstFree(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	uids := write("subuid", "a:100000:65536\nb:165536:65536\nnonsense\nc:x:y\n")
	gids := write("subgid", "a:100000:65536\nb:300000:10\n")
	for _, test := range []struct {
		files []string
		want  uint64
	}{{nil, 100000}, {[]string{filepath.Join(dir, "none")}, 100000}, {[]string{uids}, 231072}, {[]string{uids, gids}, 300010}} {
		if got := firstFree(test.files...); got != test.want {
			t.Errorf("firstFree(%v) = %d, want %d", test.files, got, test.want)
		}
	}
}

func TestHome(t *testing.T) {
	t.Setenv("HOME", "/elsewhere")
	me, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	if got := Home(); got != me.HomeDir {
		t.Errorf("Home() = %q, want %q", got, me.HomeDir)
	}
}
