package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOverlay makes a detached overlay mount. The new mount API takes each layer as an option of its own (lowerdir+, Linux 6.8); where it refuses, mount(2) gets
// all of them by short names. Which kernel it is cannot be told in advance: before 6.5 lowerdir+ is taken down like any other word and refused only at the end.
func mountOverlay(o Options) (*Mounted, error) {
	mount, err := -1, error(unix.EINVAL)
	if !strings.Contains(o.Dir, `\`) { // which the kernel takes for the beginning of an escape in some options and not in others
		mount, err = mountEach(o)
	}
	if errors.Is(err, unix.EINVAL) {
		var errOld error
		if mount, errOld = mountNamed(o); errOld != nil {
			return nil, fmt.Errorf("%w; and by mount(2): %w", err, errOld)
		}
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return &Mounted{Root: os.NewFile(uintptr(mount), o.Dir), Detached: true}, nil
}

// mountEach mounts through fsopen(2). Its options are limited to 255 bytes each.
func mountEach(o Options) (mount int, err error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("cannot mount an overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, dir := range o.Lower {
		if err := unix.FsconfigSetString(fs, "lowerdir+", dir); err != nil {
			return -1, fmt.Errorf("cannot mount an overlay: layer %s: %w%s", dir, err, kernelLog(fs))
		}
	}
	for _, kv := range [][2]string{{"upperdir", o.upper()}, {"workdir", o.work()}} {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return -1, fmt.Errorf("cannot mount an overlay: %s=%s: %w%s", kv[0], kv[1], err, kernelLog(fs))
		}
	}
	// Whiteouts and opaque directories of an unprivileged overlay are in user.* attributes (overlayfs.rst).
	if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
		return -1, fmt.Errorf("cannot mount an overlay: userxattr: %w", err)
	}
	if o.Volatile {
		if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
			return -1, fmt.Errorf("cannot mount an overlay: volatile: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("cannot mount an overlay: %w%s", err, kernelLog(fs))
	}
	mount, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot mount an overlay: %w", err)
	}
	return mount, nil
}

// kernelLog is what the kernel says in words of a failed mount (fsopen(2): messages are read from the context).
func kernelLog(fs int) string {
	buf := make([]byte, 1024)
	n, err := unix.Read(fs, buf)
	if err != nil || n <= 2 {
		return ""
	}
	return " (" + strings.TrimSpace(string(buf[2:n])) + ")"
}

// The directories of mountNamed, relative to the layer's.
const (
	linksDir = "l"
	pointDir = "m"
)

// mountNamed mounts through mount(2), whose options share one page: the layers are links with names of a few letters, relative to the layer's directory. That also
// keeps commas and colons of the data directory's path out of the options.
func mountNamed(o Options) (int, error) {
	data, err := namedOptions(o)
	if err != nil {
		return -1, fmt.Errorf("cannot mount an overlay: %w", err)
	}
	type result struct {
		mount int
		err   error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread gets a working directory of its own, and ends with the goroutine
		mount, err := mountIn(o.Dir, data)
		done <- result{mount, err}
	}()
	r := <-done
	if r.err != nil {
		return -1, fmt.Errorf("cannot mount an overlay of %d layers: %w", len(o.Lower), r.err)
	}
	return r.mount, nil
}

// namedOptions makes the links and the mount point, and returns the options that name them.
func namedOptions(o Options) (string, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, pointDir), 0o700); err != nil {
		return "", err
	}
	data, err := linked(o)
	if err != nil {
		return "", err
	}
	data += ",userxattr"
	if o.Volatile {
		data += ",volatile"
	}
	if len(data) >= os.Getpagesize() {
		return "", fmt.Errorf("%d layers are more than the kernel takes", len(o.Lower))
	}
	return data, nil
}

// linked makes links to the layers in the layer's directory, and returns the options with the names that all directories have from there.
func linked(o Options) (string, error) {
	links := filepath.Join(o.Dir, linksDir)
	// Links of an earlier life may point to where the image was then.
	if err := errors.Join(os.RemoveAll(links), os.Mkdir(links, 0o700)); err != nil {
		return "", err
	}
	names := make([]string, len(o.Lower))
	for i, dir := range o.Lower {
		names[i] = fmt.Sprintf("%s/%x", linksDir, i)
		if err := os.Symlink(dir, filepath.Join(o.Dir, names[i])); err != nil {
			return "", err
		}
	}
	return "lowerdir=" + strings.Join(names, ":") + ",upperdir=upper,workdir=work", nil
}

// mountIn mounts with dir as the working directory of the calling thread alone, and takes the mount off the tree again.
func mountIn(dir, data string) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, err
	}
	if err := unix.Chdir(dir); err != nil {
		return -1, err
	}
	if err := unix.Mount("overlay", pointDir, "overlay", 0, data); err != nil {
		return -1, err
	}
	mount, err := unix.OpenTree(unix.AT_FDCWD, pointDir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err := errors.Join(err, unix.Unmount(pointDir, unix.MNT_DETACH), unix.Rmdir(pointDir)); err != nil {
		if mount >= 0 {
			unix.Close(mount)
		}
		return -1, err
	}
	return mount, nil
}
