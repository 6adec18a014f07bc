package ops

// This file is a command's output on its way to the progress, and what a sandbox leaves in a tree.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/progress"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
)

// output are the pipes of a command; what comes out of them is told as progress, all of it.
type output struct {
	stdout, stderr *os.File // the command's ends
	readers        []*os.File
	done           sync.WaitGroup
}

func newOutput(ctx context.Context) (*output, error) {
	o := &output{}
	for i, end := range []**os.File{&o.stdout, &o.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("cannot make a pipe for the command's output: %w", err)
		}
		*end = w
		o.readers = append(o.readers, r)
		o.done.Go(func() {
			pw, _, _ := progress.NewFromContext(ctx)
			defer pw.Close() //nolint:errcheck // the progress goes on
			buf := make([]byte, 32<<10)
			for {
				n, err := r.Read(buf)
				if n > 0 {
					_ = pw.Write(identity.NewID(), client.VertexLog{Stream: i + 1, Data: slices.Clone(buf[:n])}) // nobody may be listening
				}
				if err != nil {
					return
				}
			}
		})
	}
	return o, nil
}

// close waits for the last of the output. The command and all its children have ended with its pid namespace.
func (o *output) close() {
	_, _ = o.stdout.Close(), o.stderr.Close()
	o.done.Wait()
	for _, r := range o.readers {
		_ = r.Close() // only read from
	}
}

// stubs are the mount targets that a tree did not have before its command ran.
type stubs struct {
	missing []string // deepest first
	times   map[string]unix.Stat_t
}

// findStubs looks which targets, and which directories above them, are missing.
func findStubs(root *os.File, targets []string) (*stubs, error) {
	s := &stubs{times: map[string]unix.Stat_t{}}
	for _, t := range targets {
		for p := files.Rel(t); p != "."; p = path.Dir(p) {
			if slices.Contains(s.missing, p) {
				continue
			}
			_, err := files.Stat(root, p)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOENT) {
				return nil, fmt.Errorf("cannot mount at %s: %w", t, err)
			}
			s.missing = append(s.missing, p)
		}
	}
	slices.SortFunc(s.missing, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, p := range s.missing {
		up := path.Dir(p)
		if st, err := files.Stat(root, up); err == nil {
			s.times[up] = st
		}
	}
	return s, nil
}

// remove takes away the targets that the sandbox made, as far as nothing is in them, and gives their directories their times back.
func (s *stubs) remove(root *os.File) error {
	touched := map[string]bool{}
	for _, p := range s.missing {
		ok, err := files.RemoveEmpty(root, p)
		if err != nil {
			return fmt.Errorf("cannot clean the mount target /%s: %w", p, err)
		}
		touched[path.Dir(p)] = touched[path.Dir(p)] || ok
	}
	for dir, st := range s.times {
		if touched[dir] {
			if err := files.RestoreTime(root, dir, &st); err != nil {
				return err
			}
		}
	}
	return nil
}
