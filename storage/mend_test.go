package storage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

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

// A directory of the library's that was taken away while a layer was unpacked is no end of it; other errors are.
func TestAgain(t *testing.T) {
	for _, tt := range []struct {
		err  string
		want int
	}{
		{"rename /x/overlay-layers/tmp/temp-dir-1/0-addition /x/overlay-layers/1.tar-split.gz: no such file or directory", attempts},
		{"open /x/overlay/tempdirs/temp-dir-1/0-addition/link: no such file or directory", attempts},
		{"unpacking failed (error: exit status 1; output: open /bin/sh: no such file or directory)", attempts},
		{"open /nosuch.tar: no such file or directory", 1},
		{"write /x/overlay/tempdirs/temp-dir-1/0-addition/diff/f: no space left on device", 1},
	} {
		calls := 0
		if err := Again(func() error { calls++; return errors.New(tt.err) }); err == nil || err.Error() != tt.err || calls != tt.want {
			t.Errorf("%s: %d calls, %v; want %d", tt.err, calls, err, tt.want)
		}
	}
	calls := 0
	if err := Again(func() error {
		if calls++; calls == 2 {
			return nil
		}
		return errors.New("mkdir /x/temp-dir-1/y: no such file or directory")
	}); err != nil || calls != 2 {
		t.Errorf("the second time: %v after %d calls", err, calls)
	}
}

// An archive is read again from its beginning when the first unpacking came to nothing.
func TestPutLayerAgain(t *testing.T) {
	s := open(t, t.TempDir())
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	must(t, w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1}))
	_, err := w.Write([]byte("x"))
	must(t, errors.Join(err, w.Close()))
	opened := 0
	l, err := s.PutLayerAs(digest.FromBytes(archive.Bytes()).String(), "", func() (io.ReadCloser, error) {
		if opened++; opened == 1 {
			return nil, &os.PathError{Op: "open", Path: "/x/temp-dir-1/0-addition", Err: unix.ENOENT}
		}
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	})
	if err != nil || opened != 2 || l.ID == "" {
		t.Errorf("layer %q after %d: %v", l.ID, opened, err)
	}
}
