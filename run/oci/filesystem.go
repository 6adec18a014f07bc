package oci

import (
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// NewFileSystem makes the file system of a mount of the spec as a detached mount, here and now, in the calling process. It is for mounts that have to be filled before
// anybody sees them; the others are made by the container's first process.
func NewFileSystem(m specs.Mount) (*os.File, error) {
	a := parseOptions(m.Options)
	fail := func(err error) error { return fmt.Errorf("cannot make a %s: %w", m.Type, err) }
	context, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fail(err)
	}
	defer unix.Close(context)
	for _, o := range a.data {
		if key, value, isValue := strings.Cut(o, "="); isValue {
			err = unix.FsconfigSetString(context, key, value)
		} else {
			err = unix.FsconfigSetFlag(context, key)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot make a %s with option %s: %w", m.Type, o, err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fail(err)
	}
	fd, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, int(a.set))
	if err != nil {
		return nil, fail(err)
	}
	return os.NewFile(uintptr(fd), m.Type), nil
}
