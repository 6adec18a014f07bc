package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Delete removes a directory tree with everything that subordinate ids own and directories of mode 000, without following links. A missing one is no error.
func Delete(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	// Root of the user namespace may read any directory of its ids. Without that right, the owner's own are opened up first; RemoveAll says what stays all the same.
	if parent, openErr := unix.Open(filepath.Dir(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); openErr == nil {
		openUp(parent, filepath.Base(dir))
		unix.Close(parent)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot delete %s: %w", dir, err)
	}
	return nil
}

// openUp makes a directory and all below it readable. The directory is opened first and changed by its descriptor: a name might have become a link by then, and
// fchmodat(2) has no flag against that before Linux 6.6.
func openUp(parent int, name string) {
	fd, err := unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_ = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o700) // Delete reports what it could not remove
	readable, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	unix.Close(fd)
	if err != nil {
		return
	}
	d := os.NewFile(uintptr(readable), name)
	defer d.Close()
	entries, _ := d.ReadDir(-1)
	for _, e := range entries {
		if e.IsDir() {
			openUp(readable, e.Name())
		}
	}
}
