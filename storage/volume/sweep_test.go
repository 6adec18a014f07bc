package volume

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-containers/skiff/storage/disk"
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
	for _, name := range []string{".rm-1/gone", ".tmp-1"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name, "f"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	making, err := disk.TryLock(s.gate(), disk.Shared)
	if err != nil {
		t.Fatal(err)
	}
	for _, making := range []*disk.Lock{making, nil} {
		if err := s.Sweep(); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"kept": true, ".tmp-1": making != nil, ".rm-1": false} {
			if _, err := os.Lstat(filepath.Join(s.dir, name)); (err == nil) != want {
				t.Errorf("making %v: %s: %v", making != nil, name, err)
			}
		}
		if making != nil {
			if err := making.Unlock(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
