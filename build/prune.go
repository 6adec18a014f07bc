package build

import (
	"encoding/json"
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
	if err == nil {
		err = pruneChains(s.Dir, pick)
	}
	if err == nil && s.Empty() {
		if err = os.Remove(filepath.Join(s.Dir, journalFile)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	return done, err
}

// pruneChains forgets imported results that pick chooses as if they were steps, or whose layers are gone. Their layers are the image store's.
func pruneChains(dir string, pick func(snap.Usage) bool) error {
	list, err := filepath.Glob(filepath.Join(dir, "chains", "*.json"))
	if err != nil {
		return err
	}
	for _, name := range list {
		st, err := os.Stat(name)
		if err != nil {
			continue // another one removed it
		}
		gone := pick(snap.Usage{ID: filepath.Base(name), Kind: "step", Name: "imported", Used: st.ModTime()})
		if !gone {
			var tree snap.Tree
			data, err := os.ReadFile(name)
			gone = err != nil || json.Unmarshal(data, &tree) != nil
			for _, l := range tree {
				_, err := os.Lstat(l.Dir)
				gone = gone || err != nil
			}
		}
		if gone {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
