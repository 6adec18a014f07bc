package build

// This file is the memory of what was built: BuildKit's graph of cache keys, in memory while a build runs and as a journal on the
// disk. Any number of builds append to the journal at once; each reads what was there when it began.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/util/compression"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/ops"
)

// journalFile is in the build directory.
const journalFile = "cache.journal"

// maxEntry is the length of the longest line, in bytes.
const maxEntry = 1 << 20

// journal is a solver.CacheKeyStorage.
type journal struct {
	solver.CacheKeyStorage
	mu   sync.Mutex
	file *os.File
	err  error // the first one of writing
}

// entry is a line of the journal.
type entry struct {
	ID     string                `json:"id,omitempty"`
	Result *solver.CacheResult   `json:"result,omitempty"`
	Link   *solver.CacheInfoLink `json:"link,omitempty"`
	Target string                `json:"target,omitempty"`
	Gone   string                `json:"gone,omitempty"` // a result that was let go
	Size   int64                 `json:"size,omitempty"` // of the journal when it was compacted, in bytes; the first line
}

func openJournal(dir string) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the build cache: %w", err)
	}
	j := &journal{CacheKeyStorage: solver.NewInMemoryCacheStorage(), file: f}
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxEntry)
	for s.Scan() {
		var e entry
		if len(s.Bytes()) == 0 || json.Unmarshal(s.Bytes(), &e) != nil {
			continue // the last line of a killed build
		}
		switch {
		case e.Gone != "":
			_ = j.CacheKeyStorage.Release(e.Gone) // it may be gone
		case e.Result != nil:
			_ = j.CacheKeyStorage.AddResult(e.ID, *e.Result) // in memory
		case e.Link != nil:
			_ = j.CacheKeyStorage.AddLink(e.ID, *e.Link, e.Target) // in memory
		}
	}
	if err := s.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot read the build cache: %w", err), f.Close())
	}
	return j, nil
}

// write appends a line in one write, which begins with a new line: what a killed build left unfinished ends there.
func (j *journal) write(e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err = j.file.Write(append(append([]byte{'\n'}, bytes.TrimSpace(data)...), '\n')); err != nil && j.err == nil {
		j.err = fmt.Errorf("cannot write the build cache: %w", err)
	}
	return nil // a build is right without its cache; Close tells
}

// AddResult implements solver.CacheKeyStorage. What is not kept on the disk is remembered for this build only.
func (j *journal) AddResult(id string, res solver.CacheResult) error {
	if err := j.CacheKeyStorage.AddResult(id, res); err != nil || strings.HasPrefix(res.ID, "0x") {
		return err
	}
	return j.write(entry{ID: id, Result: &res})
}

// AddLink implements solver.CacheKeyStorage.
func (j *journal) AddLink(id string, link solver.CacheInfoLink, target string) error {
	if j.HasLink(id, link, target) {
		return nil
	}
	if err := j.CacheKeyStorage.AddLink(id, link, target); err != nil {
		return err
	}
	if strings.HasPrefix(id, "random:") {
		return nil // of this build alone
	}
	return j.write(entry{ID: id, Link: &link, Target: target})
}

// Release implements solver.CacheKeyStorage.
func (j *journal) Release(result string) error {
	if err := j.CacheKeyStorage.Release(result); err != nil {
		return err
	}
	return j.write(entry{Gone: result})
}

// Close ends writing.
func (j *journal) Close() error { return errors.Join(j.err, j.file.Close()) }

// results is a solver.CacheResultStorage over the steps on the disk.
type results struct {
	env    *ops.Env
	layers *remotes
}

// Save implements solver.CacheResultStorage: a result is on the disk when it exists.
func (r results) Save(res solver.Result, at time.Time) (solver.CacheResult, error) {
	return solver.CacheResult{ID: res.ID(), CreatedAt: at}, nil
}

// Load implements solver.CacheResultStorage.
func (r results) Load(_ context.Context, res solver.CacheResult) (solver.Result, error) {
	ref, err := r.env.Load(res.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", solver.ErrNotFound, cerrdefs.ErrNotFound, err)
	}
	if len(ref.Tree) > 0 && ref.Tree[len(ref.Tree)-1].Own {
		r.env.Snap.Used(ref.Tree.ID())
	}
	return ops.Result(ref), nil
}

// LoadRemotes implements solver.CacheResultStorage. While a cache is exported, results are there whose layers all are in it already.
func (r results) LoadRemotes(_ context.Context, res solver.CacheResult, _ *compression.Config, _ session.Group) ([]*solver.Remote, error) {
	if r.layers.blobs == nil {
		return nil, nil
	}
	ref, err := r.env.Load(res.ID)
	if err != nil {
		return nil, nil //nolint:nilerr // it is gone
	}
	remote, err := r.layers.of(ops.Result(ref), false)
	if err != nil || remote == nil {
		return nil, err
	}
	return []*solver.Remote{remote}, nil
}

// Exists implements solver.CacheResultStorage.
func (r results) Exists(_ context.Context, id string) bool {
	_, err := r.env.Load(id)
	return err == nil
}
