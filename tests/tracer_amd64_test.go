package tests

import "golang.org/x/sys/unix"

// changesOld knows the system calls that only older architectures have.
func changesOld(nr uint64) bool {
	switch nr {
	case unix.SYS_RENAME, unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_SYMLINK, unix.SYS_LINK, unix.SYS_CREAT:
		return true
	}
	return false
}
