package files

// This file lays one upper directory of a union mount over another, so that several layers become one.

import (
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Merge puts what an upper directory changes over what into changes already. Files and whiteouts become links of the same file system: nothing is copied, and
// the files of both directories must not be written to afterwards.
func Merge(upper, into *os.File) error {
	if err := mergeDir(upper, into, ""); err != nil {
		return fmt.Errorf("cannot merge layers: %w", err)
	}
	return nil
}

// mergeDir merges what is in an open directory; at is its path, for errors.
func mergeDir(upper, into *os.File, at string) error {
	from, names, err := entries(upper)
	if err != nil {
		return err
	}
	defer from.Close() // only read from
	for _, name := range names {
		if err := mergeEntry(from, into, name, path.Join(at, name)); err != nil {
			return fmt.Errorf("/%s: %w", path.Join(at, name), err)
		}
	}
	return nil
}

func mergeEntry(from, into *os.File, name, full string) error {
	st, err := statAt(from, name)
	if err != nil {
		return err
	}
	old, err := statAt(into, name)
	there := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return mergeSub(from, into, name, full, &st, there, there && old.Mode&unix.S_IFMT == unix.S_IFDIR)
	}
	if there {
		if err := removeAt(into, name); err != nil {
			return err
		}
	}
	return unix.Linkat(int(from.Fd()), name, int(into.Fd()), name, 0)
}

// mergeSub merges a directory. One that takes the place of something else hides what other layers have there, as one that is opaque itself does.
func mergeSub(from, into *os.File, name, full string, st *unix.Stat_t, there, isDir bool) error {
	sub, err := openAt(from, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sub.Close() // only read from
	hides := opaque(sub) || there && !isDir
	if there && hides {
		if err := removeAt(into, name); err != nil {
			return err
		}
		isDir = false
	}
	if !isDir {
		if err := unix.Mkdirat(int(into.Fd()), name, 0o700); err != nil {
			return err
		}
	}
	target, err := openAt(into, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer target.Close() // nothing is buffered
	hides = hides || opaque(target)
	if err := mergeDir(sub, target, full); err != nil {
		return err
	}
	for _, a := range attributes(target) {
		if err := unix.Fremovexattr(int(target.Fd()), a); err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	for _, a := range attributes(sub) {
		if err := unix.Fsetxattr(int(target.Fd()), a, attribute(sub, a), 0); err != nil {
			return fmt.Errorf("write the attribute %s: %w", a, err)
		}
	}
	if hides {
		if err := unix.Fsetxattr(int(target.Fd()), "user.overlay.opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("hide what is below: %w", err)
		}
	}
	at := time.Unix(st.Mtim.Unix())
	return dress(into, name, st.Mode&0o7777, &Owner{UID: st.Uid, GID: st.Gid}, &at)
}

// entries opens a directory once more, so that reading it moves nobody's place in it, and returns its names.
func entries(d *os.File) (dir *os.File, names []string, err error) {
	if dir, err = openAt(d, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return nil, nil, err
	}
	if names, err = dir.Readdirnames(-1); err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, names, nil
}
