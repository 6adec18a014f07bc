package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountOverlay makes a detached overlay mount through the new mount API (fsopen(2)). With lowerdir+ (Linux 6.5) each layer is an option of its own; before that all
// of them share one string of at most a page, so they are named by short links.
func mountOverlay(o Options) (*Mounted, error) {
	fs, err := configure(o, true)
	if errors.Is(err, errOldKernel) {
		fs, err = configure(o, false)
	}
	if err != nil {
		return nil, err
	}
	return &Mounted{Root: os.NewFile(uintptr(fs), o.Dir), Detached: true}, nil
}

var errOldKernel = errors.New("the kernel takes no lowerdir+")

func configure(o Options, each bool) (mount int, err error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("cannot mount an overlay: %w", err)
	}
	defer unix.Close(fs)
	if err := lowers(fs, o, each); err != nil {
		return -1, err
	}
	options := [][2]string{{"upperdir", o.upper()}, {"workdir", o.work()}}
	for _, kv := range options {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return -1, fmt.Errorf("cannot mount an overlay: %s=%s: %w", kv[0], kv[1], err)
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

func lowers(fs int, o Options, each bool) error {
	if each {
		for i, dir := range o.Lower {
			if err := unix.FsconfigSetString(fs, "lowerdir+", dir); err != nil {
				if i == 0 && errors.Is(err, unix.EINVAL) {
					if _, statErr := os.Stat(dir); statErr == nil {
						return errOldKernel
					}
				}
				return fmt.Errorf("cannot mount an overlay: layer %s: %w", dir, err)
			}
		}
		return nil
	}
	links := filepath.Join(o.Dir, "l")
	if err := os.MkdirAll(links, 0o700); err != nil {
		return fmt.Errorf("cannot mount an overlay: %w", err)
	}
	list := ""
	for i, dir := range o.Lower {
		name := filepath.Join(links, fmt.Sprintf("%x", i))
		if err := os.Symlink(dir, name); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("cannot mount an overlay: %w", err)
		}
		if i > 0 {
			list += ":"
		}
		list += name
	}
	if err := unix.FsconfigSetString(fs, "lowerdir", list); err != nil {
		return fmt.Errorf("cannot mount an overlay of %d layers on a kernel before 6.5: %w", len(o.Lower), err)
	}
	return nil
}

// kernelLog is what the kernel says in words of a failed mount (fsopen(2): messages are read from the context).
func kernelLog(fs int) string {
	buf := make([]byte, 1024)
	n, err := unix.Read(fs, buf)
	if err != nil || n <= 2 {
		return ""
	}
	return " (" + string(buf[2:n-1]) + ")"
}
