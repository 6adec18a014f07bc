package files

// This file takes out of merged layers what says nothing: of what one of them made and another removed, nothing is left to hide.

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Forget removes the whiteouts and opaque marks of a merged directory that hide nothing of the layers below. Base is the upper directories of those, the lowest first.
func Forget(merged *os.File, base []*os.File) error {
	if err := forgetDir(merged, base, ""); err != nil {
		return fmt.Errorf("cannot merge layers: %w", err)
	}
	return nil
}

// forgetDir does a directory; at is its path.
func forgetDir(dir *os.File, base []*os.File, at string) error {
	names, err := list(dir, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		full := path.Join(at, name)
		st, err := statAt(dir, name)
		if err != nil {
			return err
		}
		switch {
		case whiteout(&st):
			var below bool
			if below, err = shows(base, full); err == nil && !below {
				err = removeAt(dir, name)
			}
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = forgetSub(dir, base, name, full, &st)
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", full, err)
		}
	}
	return nil
}

func forgetSub(dir *os.File, base []*os.File, name, full string, st *unix.Stat_t) error {
	sub, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sub.Close() // nothing is buffered
	if opaque(sub) {
		below, err := shows(base, full)
		if err != nil {
			return err
		}
		for _, a := range opaqueNames() {
			if below {
				break
			}
			if err := unix.Fremovexattr(int(sub.Fd()), a); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("remove the attribute %s: %w", a, err)
			}
		}
		base = nil // the directory hides all of them
	}
	if err := forgetDir(sub, base, full); err != nil {
		return err
	}
	return touch(dir, name, time.Unix(st.Mtim.Unix()))
}

// whiteout says whether an entry of an upper directory stands for one that was removed.
func whiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

// shows says whether there is anything at a path of a union of upper directories.
func shows(layers []*os.File, name string) (bool, error) {
	for i := len(layers) - 1; i >= 0; i-- {
		there, hides, err := look(layers[i], strings.Split(name, "/"))
		if err != nil || there || hides {
			return there, err
		}
	}
	return false, nil
}

// look says whether an upper directory has something at a path, and when it has not, whether it hides what the layers below have there.
func look(dir *os.File, parts []string) (there, hides bool, err error) {
	st, err := statAt(dir, parts[0])
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, false, nil
	case err != nil:
		return false, false, err
	case whiteout(&st):
		return false, true, nil
	case len(parts) == 1:
		return true, false, nil
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return false, true, nil
	}
	sub, err := openAt(dir, parts[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, false, err
	}
	defer sub.Close() // only read from
	there, hides, err = look(sub, parts[1:])
	return there, hides || !there && opaque(sub), err
}
