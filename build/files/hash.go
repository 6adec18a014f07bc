package files

// This file is the digest of what a copy would take: the cache key of COPY and ADD.

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Remember looks up and keeps digests of file contents by the file's identity; nil remembers nothing.
type Remember interface {
	Get(st *unix.Stat_t) (sum string, ok bool)
	Put(st *unix.Stat_t, sum string)
}

// Digest is a sha256 over everything that picks take from a source: names, types, modes, owners, links, contents and extended attributes, but
// not times. A path that is not there is part of it too.
func Digest(s Source, picks []Pick, memory Remember) (string, error) {
	h := sha256.New()
	for _, p := range picks {
		paths, err := s.paths(p)
		if err != nil {
			writeStrings(h, "missing", p.Path)
			continue
		}
		for _, c := range paths {
			name := c.path
			writeStrings(h, "path", Rel(name))
			if c.base != path.Base(Rel(name)) {
				writeStrings(h, "as", c.base)
			}
			err := s.Walk(name, p, func(e Entry) error { return digestEntry(h, s, e, memory) })
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func writeStrings(h hash.Hash, list ...string) {
	for _, s := range list {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		io.WriteString(h, s) //nolint:errcheck // a hash takes everything
	}
}

func digestEntry(h hash.Hash, s Source, e Entry, memory Remember) error {
	uid, gid := e.Stat.Uid, e.Stat.Gid
	if s.Flat != nil {
		uid, gid = s.Flat.UID, s.Flat.GID
	}
	var fixed [20]byte
	binary.LittleEndian.PutUint32(fixed[0:], e.Stat.Mode)
	binary.LittleEndian.PutUint32(fixed[4:], uid)
	binary.LittleEndian.PutUint32(fixed[8:], gid)
	binary.LittleEndian.PutUint64(fixed[12:], e.Stat.Rdev)
	writeStrings(h, e.Rel, string(fixed[:]))
	switch e.Stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := readlinkAt(e.Dir, e.Base)
		if err != nil {
			return err
		}
		writeStrings(h, target)
	case unix.S_IFREG:
		st := e.Stat
		if memory != nil {
			if sum, ok := memory.Get(&st); ok {
				writeStrings(h, sum)
				return nil
			}
		}
		sum, err := digestFile(e)
		if err != nil {
			return err
		}
		if memory != nil {
			memory.Put(&st, sum)
		}
		writeStrings(h, sum)
	}
	return nil
}

// digestFile is the digest of a file's contents and attributes.
func digestFile(e Entry) (string, error) {
	f, err := openAt(e.Dir, e.Base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read from
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	for _, name := range attributes(f) {
		writeStrings(h, name, string(attribute(f, name)))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// attributes names a file's extended attributes that travel with it: not the union mount's own, nor those of the host's security modules.
func attributes(f *os.File) []string {
	buf := make([]byte, 1024)
	n, err := unix.Flistxattr(int(f.Fd()), buf)
	if err != nil {
		if n, err = unix.Flistxattr(int(f.Fd()), nil); err != nil {
			return nil
		}
		buf = make([]byte, n)
		if n, err = unix.Flistxattr(int(f.Fd()), buf); err != nil {
			return nil
		}
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return !travels(name) })
}

// travels says whether an attribute is copied with its file.
func travels(name string) bool {
	for _, prefix := range []string{"user.overlay.", "user.fuseoverlayfs.", "trusted.", "system."} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return name == "security.capability" || !strings.HasPrefix(name, "security.")
}

// attribute is one value; one that cannot be read is empty.
func attribute(f *os.File, name string) []byte {
	n, err := unix.Fgetxattr(int(f.Fd()), name, nil)
	if err != nil || n == 0 {
		return nil
	}
	buf := make([]byte, n)
	if n, err = unix.Fgetxattr(int(f.Fd()), name, buf); err != nil {
		return nil
	}
	return buf[:n]
}
