package storage

// This file makes a layer of files that are here already, without an archive between them and the store.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	packed "go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Filled is what a layer's directory was filled with.
type Filled struct {
	DiffID string // sha256:... of the files as an archive
	Size   int64  // of that archive
	// Split is an open file with what of the archive is not in the files, as tar-split writes it: whoever asks for the archive gets the very same bytes. PutFiles
	// closes it.
	Split      *os.File
	UIDs, GIDs []uint32 // of the files
}

// PutFiles makes a layer over parent ("" for a first one) of the files that fill puts into an empty directory, whose owner and mode are set. It gets the id that
// pulling and loading give it; one that is there is taken as it is. fill may be called more than once.
func (s *Store) PutFiles(parent string, fill func(dir *os.File) (Filled, error)) (Layer, error) {
	var l Layer
	err := Again(func() (err error) {
		l, err = s.putFiles(parent, fill)
		return err
	})
	if err != nil {
		return Layer{}, fmt.Errorf("cannot write a layer: %w", err)
	}
	return l, nil
}

// appliersFile is the lock of whoever adds a staged layer: the library replaces the files of one that is there, which a container may be using.
const appliersFile = "appliers.lock"

func (s *Store) putFiles(parent string, fill func(dir *os.File) (Filled, error)) (done Layer, err error) {
	f := &filler{fill: fill}
	if parent != "" {
		if f.like, err = s.layerDir(parent); err != nil {
			return Layer{}, err
		}
	}
	out, err := s.lib.PrepareStagedLayer(nil, f)
	if err != nil {
		return Layer{}, err
	}
	applied := false
	defer func() {
		if !applied {
			err = errors.Join(err, s.lib.CleanupStagedLayer(out))
		}
	}()
	lock, err := disk.WaitLock(filepath.Join(s.data, "storage", appliersFile), disk.Exclusive, nil)
	if err != nil {
		return Layer{}, err
	}
	defer lock.Unlock()
	id := layerID(out.UncompressedDigest, parent)
	if l, err := s.lib.Layer(id); err == nil && l.UncompressedDigest == out.UncompressedDigest {
		return Layer{ID: id, DiffID: l.UncompressedDigest.String(), Size: l.UncompressedSize}, nil
	}
	l, err := s.lib.ApplyStagedLayer(storage.ApplyStagedLayerOptions{ID: id, ParentLayer: parent, DiffOutput: out})
	if err != nil {
		return Layer{}, err
	}
	applied = true
	return Layer{ID: l.ID, DiffID: l.UncompressedDigest.String(), Size: l.UncompressedSize}, nil
}

// filler is the library's graphdriver.Differ: it fills the directory that becomes the layer's.
type filler struct {
	like string // a directory with the owner and mode of the layer's root, "" for those of a first layer
	fill func(dir *os.File) (Filled, error)
}

// ApplyDiff implements graphdriver.Differ.
func (f *filler) ApplyDiff(path string, _ *packed.TarOptions, _ *graphdriver.DifferOptions) (out graphdriver.DriverWithDifferOutput, err error) {
	dir, err := os.Open(path)
	if err != nil {
		return out, err
	}
	defer dir.Close() // nothing is buffered
	if f.like != "" {
		var st unix.Stat_t
		if err = unix.Stat(f.like, &st); err == nil {
			err = errors.Join(unix.Fchown(int(dir.Fd()), int(st.Uid), int(st.Gid)), unix.Fchmod(int(dir.Fd()), st.Mode&0o7777))
		}
		if err != nil {
			return out, fmt.Errorf("set the owner and mode of the root directory: %w", err)
		}
	}
	got, err := f.fill(dir)
	if err != nil {
		return out, err
	}
	sum, err := digest.Parse(got.DiffID)
	if err != nil {
		return out, errors.Join(err, got.Split.Close())
	}
	return graphdriver.DriverWithDifferOutput{
		Differ: f, Size: got.Size, UIDs: got.UIDs, GIDs: got.GIDs, UncompressedDigest: sum, CompressedDigest: sum, TarSplit: got.Split,
	}, nil
}

// Close implements graphdriver.Differ.
func (*filler) Close() error { return nil }
