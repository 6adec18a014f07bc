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
	Freed   int64    // bytes that its removal gave back: images and other steps may have files of it
}

// Type is BuildKit's word for its kind.
func (u Usage) Type() string {
	if u.Kind == "step" {
		return "regular"
	}
	return "exec.cachemount"
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
		if st, err := os.Stat(filepath.Join(s.stepDir(step.ID), stepFile)); err == nil && st.ModTime().After(u.Used) {
			u.Used = st.ModTime()
		}
		for _, l := range step.Tree[:len(step.Tree)-1] {
			if l.Own {
				u.Parents = append(u.Parents, l.ID)
			}
		}
		list = append(list, u)
	}
	useBelow(list)
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
		if u.Size, err = treeSize(filepath.Join(dir, filesDir)); err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Used.After(list[j].Used) })
	return list, nil
}

// useBelow makes a step as lately used as the latest of those that lie on it.
func useBelow(list []Usage) {
	at := make(map[string]int, len(list))
	for i := range list {
		at[list[i].ID] = i
	}
	for i := range list {
		for _, p := range list[i].Parents { // all of them, not only the next
			if j, ok := at[p]; ok && list[i].Used.After(list[j].Used) {
				list[j].Used = list[i].Used
			}
		}
	}
}

// Used notes that a step was of use, for Prune.
func (s *Store) Used(id string) {
	if id == "" || strings.ContainsAny(id, "/.") {
		return
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(s.stepDir(id), stepFile), now, now) // it may be gone; a guess is as good
}

// ErrBusy says that a build is running.
var ErrBusy = errors.New("a build is running")

// Alone holds the build directory against everybody else, or returns ErrBusy at once. Another process may have held it in between.
func (s *Store) Alone() error {
	if err := s.lock.Unlock(); err != nil {
		return err
	}
	lock, err := disk.TryLock(filepath.Join(s.Dir, lockName), disk.Exclusive)
	if err == nil {
		s.lock = lock
		return nil
	}
	if errors.Is(err, disk.ErrLocked) {
		err = ErrBusy
	}
	return errors.Join(err, s.share())
}

// Share ends Alone.
func (s *Store) Share() error { return errors.Join(s.lock.Unlock(), s.share()) }

// share takes the lock as all builds do.
func (s *Store) share() (err error) {
	s.lock, err = disk.WaitLock(filepath.Join(s.Dir, lockName), disk.Shared, nil)
	return err
}

// Prune removes what pick chooses, with the steps that lie on it, and returns what went. No build may run meanwhile.
func (s *Store) Prune(pick func(Usage) bool) ([]Usage, error) {
	if err := s.Alone(); err != nil {
		return nil, fmt.Errorf("cannot prune the build cache: %w", err)
	}
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
		dir, contents := s.stepDir(u.ID), upperDir
		if u.Kind != "step" {
			dir, contents = filepath.Join(s.Dir, mountsDir, u.ID), filesDir
		}
		// Out of sight first: one that is half gone is never found.
		trash := filepath.Join(s.Images.Scratch(), "gone-"+u.ID)
		err := os.Rename(dir, trash)
		if err == nil {
			u.Freed, _ = soleSize(filepath.Join(trash, contents)) // it counts no more than it can
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
	return done, errors.Join(append(errs, s.forget())...)
}

// Empty says that no step is left, so that what is remembered of them can go as well.
func (s *Store) Empty() bool {
	steps, err := os.ReadDir(filepath.Join(s.Dir, stepsDir))
	return err == nil && len(steps) == 0
}

// Title is a usage's name in a table.
func (u Usage) Title() string { return strings.Join(strings.Fields(u.Name), " ") }
