package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountCopy makes a copy of the image's layers, lowest first, with cp(1)'s own care for owners, times, links and attributes, applying whiteouts as overlay would.
func mountCopy(o Options) (*Mounted, error) {
	tree := filepath.Join(o.Dir, "copy")
	if _, err := os.Stat(tree); errors.Is(err, os.ErrNotExist) {
		partial := tree + ".part"
		if err := errors.Join(Delete(partial), os.Mkdir(partial, 0o755)); err != nil {
			return nil, fmt.Errorf("cannot copy the image: %w", err)
		}
		for i := len(o.Lower) - 1; i >= 0; i-- {
			if err := copyLayer(o.Lower[i], partial); err != nil {
				return nil, fmt.Errorf("cannot copy the image: %w", err)
			}
		}
		if err := os.Rename(partial, tree); err != nil {
			return nil, fmt.Errorf("cannot copy the image: %w", err)
		}
	}
	root, err := os.OpenFile(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the layer: %w", err)
	}
	return &Mounted{Root: root}, nil
}

// copyLayer puts one layer's files over what is in to: directories are merged, whiteouts (character device 0:0) remove, opaque directories replace.
func copyLayer(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if d.IsDir() {
			if old, err := os.Lstat(target); err == nil && (!old.IsDir() || Opaque(path)) && rel != "." {
				if err := os.RemoveAll(target); err != nil {
					return err
				}
			}
			if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			return copyMeta(path, target, &st)
		}
		if err := os.RemoveAll(target); err != nil {
			return err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFCHR:
			if st.Rdev == 0 {
				return nil // a whiteout
			}
			return fmt.Errorf("%s is a device node", path)
		case unix.S_IFLNK:
			link, err := os.Readlink(path)
			if err == nil {
				err = os.Symlink(link, target)
			}
			if err != nil {
				return err
			}
			return unix.Lchown(target, int(st.Uid), int(st.Gid))
		case unix.S_IFREG:
			if err := copyFile(path, target); err != nil {
				return err
			}
		case unix.S_IFIFO:
			if err := unix.Mkfifo(target, 0o600); err != nil {
				return err
			}
		default:
			return nil // sockets mean nothing without their process
		}
		return copyMeta(path, target, &st)
	})
}

// Opaque says whether a directory of a layer hides what the layers below have at its place (overlayfs.rst, "opaque directories").
func Opaque(dir string) bool {
	var b [2]byte
	for _, name := range []string{"user.overlay.opaque", "trusted.overlay.opaque"} {
		if n, err := unix.Lgetxattr(dir, name, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// copyMeta copies owner, mode, times and extended attributes.
func copyMeta(from, to string, st *unix.Stat_t) error {
	if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	names := make([]byte, 4096)
	if n, err := unix.Llistxattr(from, names); err == nil {
		for _, name := range splitNames(names[:n]) {
			value := make([]byte, 65536)
			if n, err := unix.Lgetxattr(from, name, value); err == nil {
				if err := unix.Lsetxattr(to, name, value[:n], 0); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
					return err
				}
			}
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func splitNames(list []byte) (names []string) {
	for start, i := 0, 0; i < len(list); i++ {
		if list[i] == 0 {
			names = append(names, string(list[start:i]))
			start = i + 1
		}
	}
	return names
}
