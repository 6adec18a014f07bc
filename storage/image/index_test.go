package image

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/ref"
)

// id is 64 digits that begin so.
func id(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }

func put(t *testing.T, x *Index, img *Image, names ...string) {
	t.Helper()
	if err := x.Put(img); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := x.Tag(n, img.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	x := Open(t.TempDir())
	digest := "sha256:" + strings.Repeat("d", 64)
	put(t, x, &Image{ID: id("abc1"), RepoDigests: []string{"docker.io/library/debian@" + digest}}, "docker.io/library/debian:latest", "docker.io/library/debian:12")
	put(t, x, &Image{ID: id("abc2")}, "localhost:5000/a/b:1", "docker.io/library/abc1:latest")
	for _, tt := range []struct{ ask, want, name string }{
		{"debian", "abc1", "docker.io/library/debian:latest"},
		{"debian:12", "abc1", "docker.io/library/debian:12"},
		{"docker.io/library/debian:12", "abc1", "docker.io/library/debian:12"},
		{"debian@" + digest, "abc1", "docker.io/library/debian@" + digest},
		{"localhost:5000/a/b:1", "abc2", "localhost:5000/a/b:1"},
		{"abc2", "abc2", ""},
		{"abc1", "abc2", "docker.io/library/abc1:latest"}, // a name comes before an id
		{"sha256:abc1", "abc1", ""},
		{id("abc1"), "abc1", ""},
		{"sha256:" + id("abc1"), "abc1", ""},
	} {
		got, name, err := x.Resolve(tt.ask)
		if err != nil || got != id(tt.want) || name != tt.name {
			t.Errorf("%s: got %.4s, %q, %v", tt.ask, got, name, err)
		}
	}
	for _, tt := range []struct {
		ask  string
		want error
	}{
		{"nobody", ErrNotFound},
		{"debian:13", ErrNotFound},
		{"abc3", ErrNotFound},
		{"sha256:f", ErrNotFound},
		{"abc", ErrAmbiguous},
		{"debian@sha256:" + strings.Repeat("e", 64), ErrNotFound},
		{"UPPER", ref.ErrInvalid},
		{"../x", ref.ErrInvalid},
		{"", ref.ErrInvalid},
	} {
		if _, err := x.Find(tt.ask); !errors.Is(err, tt.want) {
			t.Errorf("%q: got %v, want %v", tt.ask, err, tt.want)
		}
	}
}

func TestNamesMoveAndGo(t *testing.T) {
	x := Open(t.TempDir())
	if names, err := x.Names(); err != nil || len(names) != 0 {
		t.Fatal(names, err)
	}
	put(t, x, &Image{ID: id("a")}, "docker.io/library/one:latest", "r.io/x/y%2Fz:1")
	put(t, x, &Image{ID: id("b")}, "docker.io/library/one:latest")
	names, err := x.Names()
	if want := map[string][]string{id("a"): {"r.io/x/y%2Fz:1"}, id("b"): {"docker.io/library/one:latest"}}; err != nil || !reflect.DeepEqual(names, want) {
		t.Fatal(names, err)
	}
	if err := x.Untag("nobody"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(x.Delete(id("b")), x.Delete(id("b"))); err != nil {
		t.Error(err)
	}
	if _, err := x.Find("one"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	// A name whose image is gone is no image either.
	if err := os.Remove(x.file(id("a"))); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Load(id("a")); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := x.Tag("r.io/"+strings.Repeat("n/", 120)+"n:1", id("a")); err == nil {
		t.Error("a name too long for a file was accepted")
	}
}

func TestListGoesOnAfterDamage(t *testing.T) {
	data := t.TempDir()
	x := Open(data)
	if all, err := x.List(); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	now := time.Now()
	put(t, x, &Image{ID: id("a"), Created: now.Add(-time.Hour)})
	put(t, x, &Image{ID: id("b"), Created: now})
	put(t, x, &Image{ID: id("c")})
	if err := os.WriteFile(x.file(id("c")), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := x.List()
	if len(all) != 2 || all[0].ID != id("b") || all[1].ID != id("a") {
		t.Errorf("got %v", all)
	}
	if err == nil || !strings.Contains(err.Error(), filepath.Join(data, "images", id("c")+".json")) || !strings.Contains(err.Error(), "rmi -f") {
		t.Errorf("the error names neither file nor way out: %v", err)
	}
	if err := x.Delete(id("c")); err != nil {
		t.Error(err)
	}
}

// The configuration is read from what registries hold and written as it was.
func TestConfigKeepsItsForm(t *testing.T) {
	const text = `{"created":"2024-05-06T07:08:09Z","author":"a","architecture":"arm64","variant":"v8","os":"linux","os.version":"1",` +
		`"config":{"User":"33:33","ExposedPorts":{"80/tcp":{}},"Env":["A=1"],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"l":"1"},"StopSignal":"SIGQUIT","ArgsEscaped":true},` +
		`"rootfs":{"type":"layers","diff_ids":["sha256:1"]},"history":[{"created":"2024-05-06T07:08:09Z","created_by":"b","author":"a","comment":"c","empty_layer":true}]}`
	var c Config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(c)
	if err != nil || string(got) != text {
		t.Errorf("got  %s\nwant %s, %v", got, text, err)
	}
}

func TestLock(t *testing.T) {
	x := Open(filepath.Join(t.TempDir(), "not", "there"))
	a, err := x.Lock(disk.Shared)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x.Lock(disk.Shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.TryLock(filepath.Join(x.dir, "lock"), disk.Exclusive); !errors.Is(err, disk.ErrLocked) {
		t.Error(err)
	}
	if err := errors.Join(a.Unlock(), b.Unlock()); err != nil {
		t.Error(err)
	}
}
