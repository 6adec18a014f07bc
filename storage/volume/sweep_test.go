package volume

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweep(t *testing.T) {
	data := t.TempDir()
	s := Open(data)
	if err := s.Sweep(); err != nil {
		t.Fatal("without volumes:", err)
	}
	if _, _, err := s.Create(Volume{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".rm-1/gone", ".tmp-old", ".tmp-new"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name, "f"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(s.dir, ".tmp-old"), past, past); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"kept": true, ".tmp-new": true, ".tmp-old": false, ".rm-1": false} {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
