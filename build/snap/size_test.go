package snap

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What another directory has a name of is not given back; what has several names here counts once.
func TestSoleSize(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, size int) error {
		return os.WriteFile(at(name), []byte(strings.Repeat("x", size)), 0o600)
	}
	err := errors.Join(
		os.Mkdir(at("d"), 0o700), write("alone", 1), write("d/deep", 10), write("shared", 100), write("twice", 1000), write("twice and shared", 10_000),
		os.Link(at("shared"), filepath.Join(other, "a")), os.Link(at("twice"), at("d/again")),
		os.Link(at("twice and shared"), at("d/third")), os.Link(at("twice and shared"), filepath.Join(other, "b")), os.Symlink("alone", at("link")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := soleSize(dir); n != 1011 || err != nil {
		t.Errorf("%d, %v; want 1011", n, err)
	}
	if n, err := treeSize(dir); n != 22111 || err != nil {
		t.Errorf("all in all %d, %v; want 22111", n, err)
	}
	if err := os.RemoveAll(other); err != nil {
		t.Fatal(err)
	}
	if n, err := soleSize(dir); n != 11111 || err != nil {
		t.Errorf("once the others are gone: %d, %v; want 11111", n, err)
	}
}
