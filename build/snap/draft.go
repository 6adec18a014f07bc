package snap

// This file is a step in the making: a union mount over what came before it, kept or thrown away.

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/layer"
)

// Draft is a tree that is being changed. It lies in the scratch directory, which is swept when its process is gone.
type Draft struct {
	store   *Store
	id, dir string
	lower   Tree
	mounted *layer.Mounted
	placed  []string // mount points of Place
	past    bool     // files were written past the mount since it was made
}

// New mounts a tree for changes.
func (s *Store) New(ctx context.Context, lower Tree) (*Draft, error) {
	id := fmt.Sprintf("%x", randomBytes())
	d := &Draft{store: s, id: id, dir: filepath.Join(s.Images.Scratch(), "step-"+id), lower: lower}
	target := filepath.Join(d.dir, "rootfs")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make a step: %w", err)
	}
	if len(lower) == 0 {
		// The root directory of an image from nothing is everybody's to read.
		if err := os.Mkdir(filepath.Join(d.dir, emptyDir), 0o755); err != nil {
			return nil, fmt.Errorf("cannot make a step: %w", err)
		}
	}
	if err := d.mount(ctx); err != nil {
		return nil, errors.Join(err, layer.Delete(d.dir))
	}
	return d, nil
}

// emptyDir lies below the first step of an image from nothing.
const emptyDir = "empty"

// mount mounts the tree.
func (d *Draft) mount(ctx context.Context) (err error) {
	var dirs []string
	for _, l := range slices.Backward(d.lower) {
		dirs = append(dirs, l.Dir)
	}
	if len(dirs) == 0 {
		dirs = []string{filepath.Join(d.dir, emptyDir)}
	}
	d.mounted, err = layer.Mount(ctx, layer.Options{
		Kind: d.store.kind(), Lower: dirs, Dir: filepath.Join(d.dir, "layer"), Target: filepath.Join(d.dir, "rootfs"), Volatile: true,
	})
	return err
}

// Upper opens the directory that the mount writes to, for writing past the mount; the mount is not to be used after that before Settle. It is nil when there is no
// such directory, since the tree is a copy.
func (d *Draft) Upper() (*os.File, error) {
	if d.store.kind() == layer.VFS {
		return nil, nil //nolint:nilnil // there is none
	}
	d.past = true
	return os.Open(filepath.Join(d.dir, upperDir))
}

// Settle mounts the tree anew if files were written past the mount, which may not have noticed.
func (d *Draft) Settle(ctx context.Context) error {
	if !d.past {
		return nil
	}
	if err := d.unmount(); err != nil {
		return err
	}
	if err := layer.Delete(filepath.Join(d.dir, "layer/work")); err != nil { // its traces of the first mount would forbid another
		return err
	}
	d.past = false
	return d.mount(ctx)
}

func randomBytes() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return b
}

// Root is the mounted tree.
func (d *Draft) Root() *os.File { return d.mounted.Root }

// Detached says that Root is a mount that a container may take over.
func (d *Draft) Detached() bool { return d.mounted.Detached }

// Bundle is an empty directory with a rootfs in it, for the runtime.
func (d *Draft) Bundle() string { return d.dir }

// Place mounts the tree at a new directory of this process's mount namespace, which a bind mount can then start from.
func (d *Draft) Place() (string, error) {
	at := filepath.Join(d.dir, fmt.Sprintf("at%d", len(d.placed)))
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", err
	}
	if !d.mounted.Detached {
		return filepath.Join(d.dir, "rootfs"), nil
	}
	if err := unix.MoveMount(int(d.mounted.Root.Fd()), "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", fmt.Errorf("cannot mount a step: %w", err)
	}
	d.placed = append(d.placed, at)
	return at, nil
}

// unmount ends the mounts.
func (d *Draft) unmount() error {
	var errs []error
	for _, at := range d.placed {
		errs = append(errs, unix.Unmount(at, unix.MNT_DETACH))
	}
	d.placed = nil
	return errors.Join(append(errs, d.mounted.Close())...)
}

// Discard forgets the changes.
func (d *Draft) Discard() error { return errors.Join(d.unmount(), layer.Delete(d.dir)) }

// Commit keeps the changes as a step under a name that people recognise it by.
func (d *Draft) Commit(name string) (Tree, error) {
	if err := d.unmount(); err != nil {
		return nil, errors.Join(err, layer.Delete(d.dir))
	}
	s := d.store
	final := s.stepDir(d.id)
	tree := append(slices.Clone(d.lower), Layer{ID: d.id, Own: true, Dir: filepath.Join(final, upperDir)})
	err := errors.Join(layer.Delete(filepath.Join(d.dir, "layer/work")), os.RemoveAll(filepath.Join(d.dir, "rootfs")))
	size, sizeErr := treeSize(filepath.Join(d.dir, upperDir))
	if err = errors.Join(err, sizeErr); err == nil {
		var data []byte
		step := Step{Version: 1, ID: d.id, Tree: tree, Name: name, Created: time.Now(), Boot: s.boot, Size: size}
		if data, err = json.Marshal(step); err == nil {
			err = disk.WriteFile(filepath.Join(d.dir, stepFile), data, 0o600, disk.Volatile)
		}
	}
	if err == nil {
		err = os.Rename(d.dir, final)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot keep the step: %w", err), layer.Delete(d.dir))
	}
	s.mu.Lock()
	s.fresh = append(s.fresh, d.id)
	s.mu.Unlock()
	return tree, nil
}
