package build

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage"
)

// Usage lists what builds keep.
func Usage(images *storage.Store) (list []snap.Usage, err error) {
	s, err := snap.Open(images)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Usage()
}

// Prune removes what pick chooses of it. When nothing is left, the journal of cache keys begins anew.
func Prune(images *storage.Store, pick func(snap.Usage) bool) (done []snap.Usage, err error) {
	s, err := snap.Open(images)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	done, err = s.Prune(pick)
	if err == nil && s.Empty() {
		if err = os.Remove(filepath.Join(s.Dir, journalFile)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	return done, err
}
