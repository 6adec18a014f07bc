package files

// This file has the small operations on a root: making a file, a link, a directory, and removing.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// list reads the names in a directory beneath root, sorted.
func list(root *os.File, name string) ([]string, error) {
	dir, err := OpenDir(root, name)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	slices.Sort(names)
	return names, err
}

// parent opens the directory that a path's last name is in.
func parent(root *os.File, name string) (dir *os.File, base string, err error) {
	rel := Rel(name)
	if rel == "." {
		return nil, "", fmt.Errorf("cannot write to /: it is the root directory")
	}
	dir, err = OpenDir(root, path.Dir(rel))
	return dir, path.Base(rel), err
}

// Mkdir makes a directory beneath root, with parents when all is set; one that exists is left as it is then, and a link is followed also where it
// leads to what is not there yet.
func Mkdir(root *os.File, name string, perm uint32, all bool, owner *Owner, at *time.Time) error {
	if all {
		to, err := Resolve(root, name)
		if err != nil {
			return err
		}
		f, err := MakeAll(root, to, perm, owner, at)
		if err != nil {
			return err
		}
		return f.Close()
	}
	dir, base, err := parent(root, name)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	if err := unix.Mkdirat(int(dir.Fd()), base, 0o700); err != nil {
		return &os.PathError{Op: "make directory", Path: name, Err: err}
	}
	return dress(dir, base, perm, owner, at)
}

// WriteFile makes or overwrites a file beneath root. A link at the end is followed, inside the root.
func WriteFile(root *os.File, name string, data []byte, perm uint32, owner *Owner, at *time.Time) error {
	f, err := disk.OpenBeneath(root, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NONBLOCK, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if owner != nil && err == nil {
		err = f.Chown(int(owner.UID), int(owner.GID))
	}
	if err == nil {
		err = unix.Fchmod(int(f.Fd()), perm&0o7777)
	}
	if at != nil && err == nil {
		tv := unix.NsecToTimeval(at.UnixNano())
		err = unix.Futimes(int(f.Fd()), []unix.Timeval{tv, tv})
	}
	return errors.Join(err, f.Close())
}

// Symlink makes a link beneath root.
func Symlink(root *os.File, target, name string, owner *Owner, at *time.Time) error {
	dir, base, err := parent(root, name)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	if err := unix.Symlinkat(target, int(dir.Fd()), base); err != nil {
		return &os.PathError{Op: "make link", Path: name, Err: err}
	}
	if owner != nil {
		if err := unix.Fchownat(int(dir.Fd()), base, int(owner.UID), int(owner.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "change the owner of", Path: name, Err: err}
		}
	}
	if at != nil {
		return touch(dir, base, *at)
	}
	return nil
}

// Remove removes what is at a path beneath root, or everything that a pattern matches.
func Remove(root *os.File, name string, pattern, missingOK bool) error {
	names := []string{name}
	if pattern && wildcard(name) {
		var err error
		if names, err = Glob(root, name); err != nil {
			return err
		}
	}
	for _, n := range names {
		if _, err := Lstat(root, n); err != nil {
			if missingOK && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		dir, base, err := parent(root, n)
		if err != nil {
			return err
		}
		err = removeAt(dir, base)
		_ = dir.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveEmpty removes a file without contents or a directory without entries, and says whether it did; what is missing or has something in it stays as it is.
func RemoveEmpty(root *os.File, name string) (bool, error) {
	dir, base, err := parent(root, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close() // nothing is buffered
	st, err := statAt(dir, base)
	flags := 0
	switch {
	case err != nil:
		return false, nil
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		flags = unix.AT_REMOVEDIR
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 0:
		return false, nil
	}
	err = unix.Unlinkat(int(dir.Fd()), base, flags)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

// RestoreTime gives a directory the times it had.
func RestoreTime(root *os.File, name string, st *unix.Stat_t) error {
	f, err := OpenDir(root, name)
	if err != nil {
		return nil //nolint:nilerr // it is gone, and needs no time
	}
	defer f.Close() // nothing is buffered
	return unix.UtimesNanoAt(int(f.Fd()), ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
}
