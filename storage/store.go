package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.podman.io/storage"
	"go.podman.io/storage/types"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/layer"
)

// Options say where a store is.
type Options struct {
	Data string // <Data>/storage holds layers and images, <Data>/images the index
	Run  string // running state, gone after a reboot
	// AdditionalImageStores are directories of other stores (Podman's, say) whose images are read and never changed.
	AdditionalImageStores []string
	// Layer is the kind of union mount asked for; "" takes what works, never vfs.
	Layer layer.Kind
}

// Store is an open store. Close it.
type Store struct {
	// Index is the list of images that the front reads.
	Index *image.Index
	// Layer is how layers are mounted, and so how whiteouts are stored; Why is the reason.
	Layer layer.Kind
	Why   string

	lib     storage.Store
	data    string
	extra   []string
	scratch *scratch
}

// Open opens the user's store, making it the first time. Layers that an interrupted command left half unpacked are removed on the way.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := os.MkdirAll(o.Data, 0o700); err != nil {
		return nil, explain("open the store", o.Data, err)
	}
	kind, why, err := layer.Choose(ctx, o.Data, o.Layer)
	if err != nil {
		return nil, err
	}
	options := types.StoreOptions{
		GraphRoot:       filepath.Join(o.Data, "storage"),
		RunRoot:         filepath.Join(o.Run, "storage"),
		GraphDriverName: "overlay",
		// The mount namespace is the engine's own: nothing needs to be made private in it.
		GraphDriverOptions: []string{"overlay.skip_mount_home=true", "overlay.sync=filesystem"},
		PullOptions:        map[string]string{"enable_partial_images": "false"},
	}
	if kind == layer.Fuse {
		program, lookErr := exec.LookPath("fuse-overlayfs")
		if lookErr != nil {
			return nil, &Error{
				What: "cannot open the store " + o.Data + ": fuse-overlayfs is not installed", Err: lookErr,
				Help: "install fuse-overlayfs (apt-get install fuse-overlayfs)",
			}
		}
		options.GraphDriverOptions = append(options.GraphDriverOptions, "overlay.mount_program="+program)
	}
	var extra []string
	for _, dir := range o.AdditionalImageStores {
		abs, dirErr := filepath.Abs(dir)
		if dirErr == nil {
			_, dirErr = os.Stat(abs)
		}
		if dirErr != nil {
			return nil, explain("read the additional image store", dir, dirErr)
		}
		options.GraphDriverOptions = append(options.GraphDriverOptions, "overlay.imagestore="+abs)
		extra = append(extra, abs)
	}
	if err := mendLinks(options.GraphRoot); err != nil {
		return nil, explain("open the store", o.Data, err)
	}
	lib, err := storage.GetStore(options)
	if err != nil {
		return nil, explain("open the store", o.Data, err)
	}
	s := &Store{Index: image.Open(o.Data), Layer: kind, Why: why, lib: lib, data: o.Data, extra: extra}
	if s.scratch, err = newScratch(filepath.Join(options.GraphRoot, "scratch")); err != nil {
		_, _ = lib.Shutdown(false)
		return nil, explain("open the store", o.Data, err)
	}
	return s, nil
}

// Close writes the index anew where it differs from the store, and lets go of the store. The first failure is returned; closing goes on.
func (s *Store) Close() error {
	err := s.Reconcile()
	_, down := s.lib.Shutdown(false)
	if errors.Is(down, storage.ErrLayerUsedByContainer) || errors.Is(down, storage.ErrStoreIsReadOnly) {
		down = nil
	}
	return errors.Join(err, down, s.scratch.remove())
}

// Library is the store as package pull hands it to go.podman.io/image.
func (s *Store) Library() storage.Store { return s.lib }

// Scratch is a directory for large temporary files, on the store's own file system. It is gone when the store is closed or, after
// a crash, when the next one is opened.
func (s *Store) Scratch() string { return s.scratch.dir }

// Data is the data directory.
func (s *Store) Data() string { return s.data }

// lock takes the index for changes: no container is created meanwhile.
func (s *Store) lock() (*disk.Lock, error) {
	lock, err := s.Index.Lock(disk.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the images: %w", err)
	}
	return lock, nil
}

// LayerDir is the directory with the files of a layer.
func (s *Store) LayerDir(id string) (string, error) { return s.layerDir(id) }

// layerDir is the directory of an unpacked layer, in this store or an additional one.
func (s *Store) layerDir(id string) (string, error) {
	for _, root := range append([]string{s.lib.GraphRoot()}, s.extra...) {
		dir := filepath.Join(root, "overlay", id, "diff")
		if _, err := os.Lstat(dir); err == nil {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("cannot find layer %s: %w", short(id), os.ErrNotExist)
}

// short is an id as people read it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
