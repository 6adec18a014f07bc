package log

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRotationFailsAndRecovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	o := Options{Driver: Local, MaxSize: 40, MaxFiles: 3}
	w, err := Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(false, []byte("before the trouble\n"))
	// No file can be made while the directory is away.
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	w.Write(false, []byte("lost in the trouble\n"))
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	w.Write(false, []byte("after the trouble\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := read(t, path, o, ReadOptions{Tail: -1})
	for _, want := range []string{"before the trouble", "20 bytes of output are missing", "after the trouble"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}
