package snap

// This file counts and frees what builds left: steps and cache mounts.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/layer"
)

// Usage is one thing that takes space.
type Usage struct {
	ID      string
	Kind    string // step, cache mount
	Name    string
	Size    int64 // bytes
	Used    time.Time
	Parents []string // steps that it lies on
}

// Usage lists steps and cache mounts, the latest first.
func (s *Store) Usage() ([]Usage, error) {
	var list []Usage
	steps, err := os.ReadDir(filepath.Join(s.Dir, stepsDir))
	if err != nil {
		return nil, fmt.Errorf("cannot list the build cache: %w", err)
	}
	for _, e := range steps {
		step, err := s.Step(e.Name())
		if err != nil {
			list = append(list, Usage{ID: e.Name(), Kind: "step", Name: "damaged"})
			continue
		}
		u := Usage{ID: step.ID, Kind: "step", Name: step.Name, Size: step.Size, Used: step.Created}
		for _, l := range step.Tree[:len(step.Tree)-1] {
			if l.Own {
				u.Parents = append(u.Parents, l.ID)
			}
		}
		list = append(list, u)
	}
	mounts, err := os.ReadDir(filepath.Join(s.Dir, mountsDir))
	if err != nil {
		return nil, fmt.Errorf("cannot list the build cache: %w", err)
	}
	for _, e := range mounts {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(s.Dir, mountsDir, e.Name())
		u := Usage{ID: e.Name(), Kind: "cache mount"}
		if id, err := os.ReadFile(filepath.Join(dir, "id")); err == nil {
			u.Name = string(id)
		}
		if st, err := e.Info(); err == nil {
			u.Used = st.ModTime()
		}
		if u.Size, err = treeSize(filepath.Join(dir, "files")); err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Used.After(list[j].Used) })
	return list, nil
}

// ErrBusy says that a build is running.
var ErrBusy = errors.New("a build is running")

// Prune removes what pick chooses, with the steps that lie on it, and returns what went. No build may run meanwhile.
func (s *Store) Prune(pick func(Usage) bool) ([]Usage, error) {
	if err := s.lock.Unlock(); err != nil {
		return nil, err
	}
	lock, err := disk.TryLock(filepath.Join(s.Dir, lockName), disk.Exclusive)
	if errors.Is(err, disk.ErrLocked) {
		err = fmt.Errorf("cannot prune the build cache: %w", ErrBusy)
	}
	if err != nil {
		s.lock, _ = disk.WaitLock(filepath.Join(s.Dir, lockName), disk.Shared, nil) // Close gives it back
		return nil, err
	}
	s.lock = lock
	list, err := s.Usage()
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, u := range list {
		gone[u.ID] = pick(u)
	}
	var done []Usage
	var errs []error
	for _, u := range list {
		remove := gone[u.ID]
		for _, p := range u.Parents {
			remove = remove || gone[p]
		}
		if !remove {
			continue
		}
		dir := s.stepDir(u.ID)
		if u.Kind != "step" {
			dir = filepath.Join(s.Dir, mountsDir, u.ID)
		}
		// Out of sight first: one that is half gone is never found.
		trash := filepath.Join(s.Images.Scratch(), "gone-"+u.ID)
		err := os.Rename(dir, trash)
		if err == nil {
			err = layer.Delete(trash)
		}
		if u.Kind != "step" {
			_ = os.Remove(dir + ".lock") // nobody can hold it: no build runs
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot remove %s %s: %w", u.Kind, u.ID, err))
			continue
		}
		done = append(done, u)
	}
	return done, errors.Join(errs...)
}

// Empty says that no step is left, so that what is remembered of them can go as well.
func (s *Store) Empty() bool {
	steps, err := os.ReadDir(filepath.Join(s.Dir, stepsDir))
	return err == nil && len(steps) == 0
}

// Title is a usage's name in a table.
func (u Usage) Title() string { return strings.Join(strings.Fields(u.Name), " ") }
