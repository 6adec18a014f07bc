package build

// This file counts and frees what builds keep.

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage"
)

// Usage lists what builds keep, as far as the options choose it. Cache mounts are in it whatever All is.
func Usage(images *storage.Store, o PruneOptions) (list []snap.Usage, err error) {
	s, err := snap.Open(images)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	o.All = true
	if list, err = s.Usage(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(u snap.Usage) bool { return !o.chosen(u) }), nil
}

// PruneOptions of Prune. Sizes are in bytes; without any of them all that may go goes.
type PruneOptions struct {
	All        bool          // cache mounts as well
	Age        time.Duration // what was used since then stays
	IDs, Types []string      // of what may go; none is any. Types are BuildKit's: regular, exec.cachemount
	// Max is how much may stay; Free how much is to be free on the disk, for which more goes; Reserved stays in any case.
	Max, Free, Reserved int64
}

// chosen says whether something may go.
func (o PruneOptions) chosen(u snap.Usage) bool {
	if len(o.IDs) > 0 && !slices.ContainsFunc(o.IDs, func(id string) bool { return id != "" && strings.HasPrefix(u.ID, id) }) || len(o.Types) > 0 && !slices.Contains(o.Types, u.Type()) {
		return false
	}
	return (u.Kind == "step" || o.All || slices.Contains(o.Types, u.Type())) && (o.Age <= 0 || time.Since(u.Used) >= o.Age) // a clock that was set back keeps nothing
}

// keep is how much of total stays, with free bytes on the disk: BuildKit's rule (its control/gateway prune, calculateKeepBytes).
func (o PruneOptions) keep(total, free int64) int64 {
	stays := o.Max
	if missing := o.Free - free; missing > 0 {
		if stays == 0 {
			stays = total - missing
		}
		stays = min(stays, total-missing)
	} else if o.Free > 0 && o.Max == 0 {
		stays = total // there is enough
	}
	return max(stays, o.Reserved, 0)
}

// pick chooses what goes: the longest unused first, until little enough is left. What lies on something goes with it.
func (o PruneOptions) pick(list []snap.Usage, free int64) func(snap.Usage) bool {
	if o.Max == 0 && o.Free == 0 && o.Reserved == 0 {
		return o.chosen
	}
	total := int64(0)
	above := map[string][]snap.Usage{}
	for _, u := range list {
		total += u.Size
		for _, p := range u.Parents {
			above[p] = append(above[p], u)
		}
	}
	stays := o.keep(total, free)
	gone := map[string]bool{}
	for i := len(list) - 1; i >= 0 && total > stays; i-- { // the list begins with the latest
		if !o.chosen(list[i]) {
			continue
		}
		for _, u := range append(above[list[i].ID], list[i]) {
			if !gone[u.ID] {
				gone[u.ID] = true
				total -= u.Size
			}
		}
	}
	return func(u snap.Usage) bool { return gone[u.ID] }
}

// Prune removes what the options choose. The journal of cache keys is written anew without what led there.
func Prune(images *storage.Store, o PruneOptions) (done []snap.Usage, err error) {
	s, err := snap.Open(images)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	list, err := s.Usage()
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.Dir, &st); err != nil {
		return nil, err
	}
	done, err = s.Prune(o.pick(list, int64(st.Bavail)*st.Bsize))
	if err == nil {
		err = pruneChains(s.Dir, o.chosen)
	}
	if err == nil {
		err = compact(s, images)
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
