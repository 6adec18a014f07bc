package oci

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenTree copies the mount at a path of another container, whose first process is pid, as a detached mount (Bundle.Trees). Only a mount of one's own mount namespace can be
// copied, so it is done by a thread that joins the container's, and, as there is no way back for it, dies with its goroutine. No link is followed: the container could have put one there.
func OpenTree(pid int, path string) (*os.File, error) {
	ns, err := openNamespace(pid, "mnt")
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	type answer struct {
		fd  int
		err error
	}
	result := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocked
		fd, err := openTreeIn(ns, path)
		result <- answer{fd, err}
	}()
	a := <-result
	if a.err != nil {
		return nil, fmt.Errorf("cannot open %s of process %d: %w", path, pid, a.err)
	}
	return os.NewFile(uintptr(a.fd), path), nil
}

// openTreeIn joins a mount namespace, which sets the thread's root and working directory to the root of that, and copies the mount.
func openTreeIn(ns *os.File, path string) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a mount namespace is joined by who shares no working directory
		return -1, err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return -1, err
	}
	at, err := unix.Openat2(unix.AT_FDCWD, strings.TrimPrefix(path, "/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: noSymlink})
	if err != nil {
		return -1, err
	}
	defer unix.Close(at) // nothing is written through it
	return unix.OpenTree(at, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}
