package snap

// This file adds up the files of a step or a cache mount.

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// treeSize adds up the files below a directory.
func treeSize(dir string) (total int64, err error) {
	err = eachFile(dir, func(st *unix.Stat_t) { total += st.Size })
	return total, err
}

// soleSize adds up the files below a directory that are nowhere else: images and other steps may have some of them.
func soleSize(dir string) (total int64, err error) {
	seen := map[uint64]uint64{} // names, by inode
	err = eachFile(dir, func(st *unix.Stat_t) {
		if st.Nlink > 1 {
			if seen[st.Ino]++; seen[st.Ino] < uint64(st.Nlink) { //nolint:unconvert // 32 bits on arm64
				return
			}
		}
		total += st.Size
	})
	return total, err
}

// eachFile calls a function for each regular file below a directory. What goes meanwhile, as in a cache mount in use, is left out.
func eachFile(dir string, do func(*unix.Stat_t)) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return eachOpened(f, do)
}

// eachOpened is eachFile for an open directory, which it closes.
func eachOpened(dir *os.File, do func(*unix.Stat_t)) error {
	defer dir.Close() // only read from
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			do(&st)
		}
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			var fd int
			if fd, err = unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
				err = eachOpened(os.NewFile(uintptr(fd), name), do)
			}
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "count", Path: name, Err: err}
		}
	}
	return nil
}
