package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CopyTree copies the content and the attributes of one directory to another, by descriptor: owners, modes and times too. No link is followed. Devices cannot be made, and sockets mean
// nothing without their process, so both are left out.
func CopyTree(from, to *os.File) error { return copyTree(from, to, 0) }

// maxDepth bounds directories within directories in an image.
const maxDepth = 256

func copyTree(from, to *os.File, depth int) error {
	if depth > maxDepth {
		return errors.New("directories are nested too deeply")
	}
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	src, dst := int(from.Fd()), int(to.Fd())
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := copyEntry(src, dst, name, &st, depth); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := errors.Join(unix.Fchown(dst, int(st.Uid), int(st.Gid)), unix.Fchmod(dst, st.Mode&0o7777)); err != nil {
		return err
	}
	return futimes(to, &st)
}

func copyEntry(src, dst int, name string, st *unix.Stat_t, depth int) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(dst, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		a, err := openAt(src, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := openAt(dst, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer b.Close()
		return copyTree(a, b, depth+1)
	case unix.S_IFREG:
		a, err := openAt(src, name, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := openAt(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
		if err != nil {
			return err
		}
		_, err = b.ReadFrom(a)
		err = errors.Join(err, unix.Fchown(int(b.Fd()), int(st.Uid), int(st.Gid)), unix.Fchmod(int(b.Fd()), st.Mode&0o7777), futimes(b, st))
		return errors.Join(err, b.Close())
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(src, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), dst, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFIFO:
		if err := unix.Mknodat(dst, name, st.Mode, 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil // devices cannot be made, sockets mean nothing without their process
}

func openAt(dir int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func futimes(f *os.File, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), []unix.Timespec{st.Atim, st.Mtim}, 0)
}
