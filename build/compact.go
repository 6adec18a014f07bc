package build

// This file writes the journal of cache keys anew, without what leads nowhere any more: results that are gone, and keys on the way to them alone.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/solver"

	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
)

// compactFrom is the size from which a journal is compacted when a build begins, in bytes: some 3000 lines, which cost each build 10 to 15 microseconds apiece.
const compactFrom = 256 << 10

// tidy compacts a journal that has grown large, and to twice of what the last time could not do without, unless other builds run.
func tidy(s *snap.Store, images *storage.Store) error {
	f, err := os.Open(filepath.Join(s.Dir, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the build cache: %w", err)
	}
	defer f.Close() // only read from
	st, err := f.Stat()
	if err != nil || st.Size() < compactFrom {
		return err
	}
	var head entry
	if line, err := bufio.NewReader(f).ReadBytes('\n'); err == nil && json.Unmarshal(line, &head) == nil && st.Size() < 2*head.Size {
		return nil
	}
	err = s.Alone()
	if errors.Is(err, snap.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(compact(s, images), s.Share())
}

// compact does it; nobody else may use the build directory meanwhile.
func compact(s *snap.Store, images *storage.Store) error {
	path := filepath.Join(s.Dir, journalFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the build cache: %w", err)
	}
	env := &ops.Env{Snap: s, Images: images}
	there := func(key string) bool { _, err := env.Load(key); return err == nil }
	rest := compacted(data, there)
	head, err := json.Marshal(entry{Size: int64(len(rest))})
	if err != nil {
		return err
	}
	if err := disk.WriteFile(path, append(append(head, '\n'), rest...), 0o600, disk.Durable); err != nil {
		return fmt.Errorf("cannot write the build cache: %w", err)
	}
	return nil
}

// compacted is a journal without results that are not there and without links that lead to none that is.
func compacted(data []byte, there func(string) bool) []byte {
	type link struct {
		from, to string
		info     solver.CacheInfoLink
	}
	var list []entry
	results := map[string]map[string]bool{} // of ids
	known := map[string]bool{}              // whether a result is there
	links := map[link]bool{}
	into := map[string][]string{} // sources of links, by target
	for _, e := range entries(data) {
		switch {
		case e.Gone != "":
			delete(known, e.Gone)
			for id := range results {
				delete(results[id], e.Gone)
			}
		case e.Result != nil:
			ok, asked := known[e.Result.ID]
			if !asked {
				ok = there(e.Result.ID)
				known[e.Result.ID] = ok
			}
			if !ok || results[e.ID][e.Result.ID] {
				continue
			}
			if results[e.ID] == nil {
				results[e.ID] = map[string]bool{}
			}
			results[e.ID][e.Result.ID] = true
			list = append(list, e)
		case e.Link != nil:
			l := link{e.ID, e.Target, *e.Link}
			if links[l] {
				continue
			}
			links[l] = true
			into[e.Target] = append(into[e.Target], e.ID)
			list = append(list, e)
		}
	}
	alive := map[string]bool{}
	var mark func(id string)
	mark = func(id string) {
		if alive[id] {
			return
		}
		alive[id] = true
		for _, from := range into[id] {
			mark(from)
		}
	}
	for id, of := range results {
		if len(of) > 0 {
			mark(id)
		}
	}
	var out bytes.Buffer
	for _, e := range list {
		if e.Result != nil && !results[e.ID][e.Result.ID] || e.Link != nil && !alive[e.Target] {
			continue
		}
		if e.Result != nil {
			delete(results[e.ID], e.Result.ID) // one that was let go and made again is there twice
		}
		line, err := json.Marshal(e)
		if err != nil {
			continue // it was read from JSON
		}
		out.Write(append(line, '\n'))
	}
	return out.Bytes()
}

// entries reads the lines of a journal; those of a killed build that are cut are left out.
func entries(data []byte) []entry {
	var list []entry
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxEntry)
	for s.Scan() {
		var e entry
		if len(s.Bytes()) > 0 && json.Unmarshal(s.Bytes(), &e) == nil {
			list = append(list, e)
		}
	}
	return list
}
