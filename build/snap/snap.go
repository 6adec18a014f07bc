// Package snap keeps what the steps of builds made: one directory per step, with what that step changed (the upper directory of a
// union mount), and which layers it lies on. It is not the image store: layers of images are containers/storage's, and a step
// becomes one of those only when an image that has it is written.
//
// All of it runs in the engine, inside the user namespace.
package snap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/layer"
)

// Layer is one directory of changes.
type Layer struct {
	ID  string `json:"id"`            // of a step, or of a layer of an image
	Own bool   `json:"own,omitempty"` // a step's
	Dir string `json:"dir"`
	// Made is when, of a layer that is not a step's and whose image's history does not say it.
	Made time.Time `json:"made,omitzero"`
}

// Tree is layers, lowest first. None is an empty tree.
type Tree []Layer

// ID names a tree by its top layer; an empty one has none.
func (t Tree) ID() string {
	if len(t) == 0 {
		return ""
	}
	return t[len(t)-1].ID
}

// Step is what is kept of a step beside its directory.
type Step struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Tree    Tree      `json:"tree"` // with the step's own layer on top
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Boot    string    `json:"boot"` // during which it was made
	Size    int64     `json:"size"` // bytes
}

// Names in the build directory and in a step's.
const (
	lockName   = "lock"
	stepsDir   = "steps"
	mountsDir  = "mounts"
	upperDir   = "layer/upper"
	stepFile   = "step.json"
	syncedFile = "synced" // it survives a loss of power
	filesDir   = "files"  // what is in a cache mount
)

// Store is the build directory.
type Store struct {
	Images *storage.Store
	Dir    string
	lock   *disk.Lock
	boot   string

	mu    sync.Mutex
	views map[string]*View
	fresh []string // steps of this process, not synced yet
}

// Open opens the build directory of an image store and holds it, with others, against Prune.
func Open(images *storage.Store) (*Store, error) {
	s := &Store{Images: images, Dir: filepath.Join(images.Data(), "build"), views: map[string]*View{}}
	for _, dir := range []string{stepsDir, mountsDir} {
		if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the build cache: %w", err)
		}
	}
	boot, err := disk.BootID()
	if err != nil {
		return nil, err
	}
	s.boot = boot
	if s.lock, err = disk.WaitLock(filepath.Join(s.Dir, lockName), disk.Shared, nil); err != nil {
		return nil, fmt.Errorf("cannot open the build cache: %w", err)
	}
	return s, nil
}

// Close unmounts what is mounted and makes the new steps safe from a loss of power.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, v := range s.views {
		errs = append(errs, v.discard())
	}
	s.views = map[string]*View{}
	if len(s.fresh) > 0 {
		errs = append(errs, s.sync())
	}
	return errors.Join(append(errs, s.lock.Unlock())...)
}

func (s *Store) sync() error {
	dir, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer dir.Close() // only read from
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("cannot write the build cache to the disk: %w", err)
	}
	for _, id := range s.fresh {
		if err := disk.WriteFile(filepath.Join(s.stepDir(id), syncedFile), nil, 0o600, disk.Volatile); err != nil {
			return err
		}
	}
	s.fresh = nil
	return nil
}

func (s *Store) stepDir(id string) string { return filepath.Join(s.Dir, stepsDir, id) }

// Image is the tree of a local image.
func (s *Store) Image(img *image.Image) Tree {
	var t Tree
	for i := len(img.Layers) - 1; i >= 0; i-- {
		dir := img.Layers[i]
		t = append(t, Layer{ID: filepath.Base(filepath.Dir(dir)), Dir: dir})
	}
	return t
}

// Load finds a step's tree. One that is not whole any more is not found: a layer is gone, or a loss of power may have cut it.
func (s *Store) Load(id string) (Tree, error) {
	step, err := s.Step(id)
	if err != nil {
		return nil, err
	}
	if step.Boot != s.boot {
		if _, err := os.Stat(filepath.Join(s.stepDir(id), syncedFile)); err != nil {
			return nil, fmt.Errorf("cannot use step %s: it was not on the disk when the machine stopped: %w", id, os.ErrNotExist)
		}
	}
	for _, l := range step.Tree {
		if _, err := os.Lstat(l.Dir); err != nil {
			return nil, fmt.Errorf("cannot use step %s: %w", id, err)
		}
	}
	return step.Tree, nil
}

// Step reads what is kept of a step.
func (s *Store) Step(id string) (*Step, error) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return nil, fmt.Errorf("cannot use step %q: %w", id, os.ErrNotExist)
	}
	data, err := os.ReadFile(filepath.Join(s.stepDir(id), stepFile))
	if err != nil {
		return nil, err
	}
	var step Step
	if err := json.Unmarshal(data, &step); err != nil {
		return nil, fmt.Errorf("cannot read step %s: %w", id, err)
	}
	return &step, nil
}

// View is a tree mounted for reading, shared by everybody who asks for it.
type View struct {
	Root  *os.File
	draft *Draft
}

// View opens a tree for reading. It stays open until the store is closed.
func (s *Store) View(ctx context.Context, t Tree) (*View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := t.ID()
	if v := s.views[key]; v != nil {
		return v, nil
	}
	v := &View{}
	if len(t) == 1 {
		root, err := os.OpenFile(t[0].Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		v.Root = root
	} else {
		d, err := s.New(ctx, t)
		if err != nil {
			return nil, err
		}
		v.Root, v.draft = d.Root(), d
	}
	s.views[key] = v
	return v, nil
}

func (v *View) discard() error {
	if v.draft == nil {
		return v.Root.Close()
	}
	return v.draft.Discard()
}

// kind is how trees are mounted.
func (s *Store) kind() layer.Kind { return s.Images.Layer }
