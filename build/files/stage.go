package files

// This file makes the directory of a layer and the digest of its archive, in one go through the files.

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// StageOptions of Stage.
type StageOptions struct {
	// Own says that nobody ever writes to the files again: they get a second name instead of a copy.
	Own bool
	// Latest is the time that later ones become; zero leaves all. Links have the times that the files have, so it makes copies.
	Latest time.Time
}

// Staged is what Stage made.
type Staged struct {
	DiffID     string   // sha256:... of the archive
	Size       int64    // of it
	Split      *os.File // its tar-split metadata
	UIDs, GIDs []uint32
}

// Stage puts the changes of an upper directory into an empty one, which is to be a layer's, and computes what Tar would write. Temporary files are made in scratch.
func Stage(into, upper *os.File, scratch string, o StageOptions) (Staged, error) {
	split, err := os.CreateTemp(scratch, "split-")
	if err != nil {
		return Staged{}, err
	}
	err = os.Remove(split.Name())
	var done Staged
	switch {
	case err != nil:
	case o.Own && o.Latest.IsZero():
		done, err = stageLinks(into, upper, split)
	default:
		// What was copied is what counts: the files may be changing.
		if err = place(into, upper, false, o.Latest); err == nil {
			done, _, err = sumUp(into, split)
		}
	}
	if err != nil {
		return Staged{}, errors.Join(fmt.Errorf("cannot make the files of a layer: %w", err), split.Close())
	}
	return done, nil
}

// stageLinks makes the links while the files are read.
func stageLinks(into, upper, split *os.File) (done Staged, err error) {
	var sockets []string
	var both errgroup.Group
	both.Go(func() error { return place(into, upper, true, time.Time{}) })
	both.Go(func() (err error) {
		done, sockets, err = sumUp(upper, split)
		return err
	})
	if err := both.Wait(); err != nil {
		return Staged{}, err
	}
	for _, full := range sockets {
		if err := withdraw(into, full); err != nil {
			return Staged{}, err
		}
	}
	return done, nil
}

// withdraw removes a name, and leaves its directory the times it had.
func withdraw(root *os.File, full string) error {
	dir, base, err := parent(root, full)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(dir.Fd()), base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: full, Err: err}
	}
	return unix.UtimesNanoAt(int(dir.Fd()), ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// sumUp computes what Tar would write of an upper directory, and which sockets it would leave out.
func sumUp(upper, split *os.File) (Staged, []string, error) {
	s := &summer{sum: sha256.New(), split: newSplitter(split), uids: map[uint32]bool{}, gids: map[uint32]bool{}, buf: make([]byte, 1<<20)}
	w := tar.NewWriter(s)
	t := &tarrer{w: w, o: TarOptions{Changes: true}, links: map[[2]uint64]string{}}
	t.entered = func(h *tar.Header, f *os.File) error { return s.entry(w, h, f) }
	err := t.directory(upper, "")
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = s.split.close()
	}
	return Staged{
		DiffID: "sha256:" + hex.EncodeToString(s.sum.Sum(nil)), Size: s.size, Split: split,
		UIDs: slices.Sorted(maps.Keys(s.uids)), GIDs: slices.Sorted(maps.Keys(s.gids)),
	}, t.sockets, err
}

// summer takes an archive that is written to nowhere.
type summer struct {
	sum        hash.Hash
	size       int64
	split      *splitter
	inside     bool   // of a file's contents
	check      uint64 // of those
	uids, gids map[uint32]bool
	buf        []byte
}

// apart is from how many bytes on two sums are computed at once.
const apart = 1 << 18

// Write takes what the archive's writer makes: headers and what fills up blocks are kept, contents are in the files.
func (s *summer) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	switch {
	case !s.inside:
		s.split.segment = append(s.split.segment, p...)
	case len(p) < apart:
		s.check = crc64.Update(s.check, s.split.table, p)
	default:
		var other sync.WaitGroup
		other.Go(func() { s.check = crc64.Update(s.check, s.split.table, p) })
		defer other.Wait()
	}
	return s.sum.Write(p)
}

// entry takes one entry of the archive.
func (s *summer) entry(w *tar.Writer, h *tar.Header, f *os.File) error {
	s.uids[uint32(h.Uid)], s.gids[uint32(h.Gid)] = true, true
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	s.inside, s.check = true, 0
	for left := h.Size; left > 0; {
		n, err := f.Read(s.buf[:min(left, int64(len(s.buf)))])
		if err == nil {
			_, err = w.Write(s.buf[:n])
		} else if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // somebody cut it
		}
		if err != nil {
			return &os.PathError{Op: "read", Path: h.Name, Err: err}
		}
		left -= int64(n)
	}
	s.inside = false
	return s.split.file(h.Name, h.Size, s.check)
}
