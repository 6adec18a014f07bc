package storage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-containers/skiff/storage/disk"
)

// An empty link file is completed with the name of its link, or with one that nobody has; never while layers are being added.
func TestMendLinks(t *testing.T) {
	root := t.TempDir()
	home := filepath.Join(root, "overlay")
	must(t, mendLinks(root)) // no store yet
	for id, text := range map[string]string{"whole": "AAA", "killed": "", "early": ""} {
		must(t, os.MkdirAll(filepath.Join(home, id), 0o700))
		must(t, os.WriteFile(filepath.Join(home, id, "link"), []byte(text), 0o644))
	}
	must(t, os.Mkdir(filepath.Join(home, "l"), 0o700))
	must(t, os.Symlink("../whole/diff", filepath.Join(home, "l/AAA")))
	must(t, os.Symlink("../killed/diff", filepath.Join(home, "l/BBB")))
	lock, err := disk.TryLock(filepath.Join(root, writersFile), disk.Shared)
	must(t, err)
	for _, want := range []map[string]string{{"whole": "AAA", "killed": "", "early": ""}, {"whole": "AAA", "killed": "BBB", "early": "none-early"}} {
		must(t, mendLinks(root))
		for id, text := range want {
			if got, err := os.ReadFile(filepath.Join(home, id, "link")); err != nil || string(got) != text {
				t.Errorf("%s: %q, %v; want %q", id, got, err, text)
			}
		}
		if lock != nil {
			must(t, lock.Unlock())
			lock = nil
		}
	}
}

// An image whose maker was killed before it had a configuration goes with its layers; others stay.
func TestSweepUnfinished(t *testing.T) {
	s := open(t, t.TempDir())
	kept := put(t, s, "x", "a")
	before, err := s.lib.Layers()
	must(t, err)
	layer, err := s.lib.CreateLayer("", "", nil, "", false, nil)
	must(t, err)
	unfinished, err := s.lib.CreateImage("", nil, layer.ID, "{}", nil)
	must(t, err)
	if _, err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.lib.Image(unfinished.ID); err == nil {
		t.Error("the unfinished image is still there")
	}
	if _, err := s.lib.Image(kept); err != nil {
		t.Error(err)
	}
	if after, err := s.lib.Layers(); err != nil || len(after) != len(before) {
		t.Error("layers:", len(before), "before,", len(after), "after", err)
	}
}
