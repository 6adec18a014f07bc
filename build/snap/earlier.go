package snap

// This file finds what a step made the last time, when what it lies on was the same but what it copies was not.

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Names in the build directory and in a step's.
const (
	latestDir = "latest" // a link for each place in a build: its target is the id of the last step there
	sumsFile  = "sums"   // digests of a step's files
)

// Place names a place in a build: a tree, and what is done to it, whatever that depends on.
func Place(lower Tree, what string) string {
	h := sha256.New()
	for _, l := range lower {
		fmt.Fprintf(h, "%s\n%s\n", l.ID, l.Dir)
	}
	h.Write([]byte(what))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Earlier is the last step at a place: its upper directory, and the digests of its files by path. It is nil when there is none, or none that can be used.
func (s *Store) Earlier(place string, lower Tree) (*os.File, map[string]string) {
	id, err := os.Readlink(filepath.Join(s.Dir, latestDir, place))
	if err != nil {
		return nil, nil
	}
	tree, err := s.Load(id)
	if err != nil || !slices.EqualFunc(tree[:len(tree)-1], lower, func(a, b Layer) bool { return a.ID == b.ID && a.Dir == b.Dir }) {
		return nil, nil
	}
	sums := readSums(filepath.Join(s.stepDir(id), sumsFile))
	if len(sums) == 0 {
		return nil, nil
	}
	upper, err := os.Open(tree[len(tree)-1].Dir)
	if err != nil {
		return nil, nil
	}
	return upper, sums
}

// SetSums keeps the digests of the draft's files, in hex, by path.
func (d *Draft) SetSums(sums map[string]string) error {
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		sum, err := hex.DecodeString(sums[name])
		if err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("cannot keep the digest %q of %s", sums[name], name)
		}
		data = append(append(binary.AppendUvarint(data, uint64(len(name))), name...), sum...)
	}
	return disk.WriteFile(filepath.Join(d.dir, sumsFile), data, 0o600, disk.Volatile)
}

// readSums reads what SetSums wrote; of a damaged file what comes before the damage.
func readSums(path string) map[string]string {
	data, _ := os.ReadFile(path) // without it nothing is known
	sums := make(map[string]string, len(data)/64)
	for len(data) > 0 {
		n, width := binary.Uvarint(data)
		if width <= 0 || n > uint64(len(data)) || uint64(len(data)) < uint64(width)+n+sha256.Size {
			break
		}
		name := string(data[width : width+int(n)])
		data = data[width+int(n):]
		sums[name] = hex.EncodeToString(data[:sha256.Size])
		data = data[sha256.Size:]
	}
	return sums
}

// SetLatest makes a step the last one at a place.
func (s *Store) SetLatest(place, id string) error {
	dir := filepath.Join(s.Dir, latestDir)
	temporary := filepath.Join(s.Images.Scratch(), "latest-"+id)
	err := errors.Join(os.MkdirAll(dir, 0o700), os.Symlink(id, temporary))
	if err == nil {
		err = os.Rename(temporary, filepath.Join(dir, place))
	}
	if err != nil {
		return fmt.Errorf("cannot note the step: %w", err)
	}
	return nil
}

// forget removes the links to steps that are gone. No build may run meanwhile.
func (s *Store) forget() error {
	dir := filepath.Join(s.Dir, latestDir)
	links, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, l := range links {
		id, err := os.Readlink(filepath.Join(dir, l.Name()))
		if err == nil {
			_, err = os.Lstat(s.stepDir(id))
		}
		if err != nil {
			errs = append(errs, os.Remove(filepath.Join(dir, l.Name())))
		}
	}
	return errors.Join(errs...)
}
