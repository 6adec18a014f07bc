package userns

import (
	"reflect"
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
