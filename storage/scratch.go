package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/storage/disk"
)

// scratch is a directory of temporary files that its process holds a lock on. One that nobody holds is a killed
// process's, and is deleted by whoever comes next.
type scratch struct {
	dir  string
	lock *disk.Lock
}

// newScratch deletes what dead processes left under parent and makes a directory for this one.
func newScratch(parent string) (*scratch, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	// A sweeper holds the gate alone, a maker with others: what is made but not locked yet is never taken for a dead process's.
	gatePath := parent + ".lock"
	if gate, err := disk.TryLock(gatePath, disk.Exclusive); err == nil {
		err = sweepAll(parent)
		if err = errors.Join(err, gate.Unlock()); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, disk.ErrLocked) {
		return nil, err
	}
	gate, err := disk.WaitLock(gatePath, disk.Shared, nil)
	if err != nil {
		return nil, err
	}
	defer gate.Unlock()
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		return nil, err
	}
	lock, err := disk.TryLock(filepath.Join(dir, "lock"), disk.Exclusive)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &scratch{dir: dir, lock: lock}, nil
}

func sweepAll(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := sweep(filepath.Join(parent, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// sweep deletes a scratch directory that nobody holds. The caller has the gate alone.
func sweep(dir string) error {
	path := filepath.Join(dir, "lock")
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		// Its maker was killed before it had the lock, or while it removed everything: the caller has the gate, so nobody is about to lock it.
		return os.RemoveAll(dir)
	}
	lock, err := disk.TryLock(path, disk.Exclusive)
	switch {
	case errors.Is(err, disk.ErrLocked), errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	groups, err := os.ReadFile(filepath.Join(dir, groupsFile))
	if err == nil {
		err = cgroup.End(strings.Fields(string(groups)))
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	return errors.Join(err, lock.Unlock())
}

// groupsFile lists the control groups that the directory's process has made, a line each.
const groupsFile = "groups"

// NoteGroup notes a control group that this process is about to make: should it be killed, whoever opens the store next ends the group.
func (s *Store) NoteGroup(dir string) error {
	f, err := os.OpenFile(filepath.Join(s.Scratch(), groupsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(dir + "\n")
	return errors.Join(err, f.Close())
}

func (s *scratch) remove() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Unlock()) }
