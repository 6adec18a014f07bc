package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/disk"
)

// copyUp does the tmpfs mounts of a spec that are to begin with what the image has there (tmpcopyup). They are mounted beneath the root here and now, in this process's own mount
// namespace: the container's root is a copy of it with all that is mounted beneath. A tmpfs over nothing stays an ordinary one.
func copyUp(s *specs.Spec, root *os.File) error {
	var rest []specs.Mount
	for i, m := range s.Mounts {
		asked := slices.Contains(m.Options, "tmpcopyup")
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "tmpcopyup" })
		if asked {
			for _, before := range rest {
				if strings.HasPrefix(m.Destination+"/", path.Clean(before.Destination)+"/") {
					return &FieldError{fmt.Sprintf("mounts[%d].options", i), "tmpcopyup beneath another mount, " + before.Destination + ", is not supported"}
				}
			}
			done, err := copyUpOne(m, root)
			if err != nil {
				return fmt.Errorf("cannot mount tmpfs at %s with what is there: %w", m.Destination, err)
			}
			if done {
				continue
			}
		}
		rest = append(rest, m)
	}
	s.Mounts = rest
	return nil
}

func copyUpOne(m specs.Mount, root *os.File) (done bool, err error) {
	from, err := disk.OpenBeneath(root, m.Destination, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer from.Close()
	if names, err := from.Readdirnames(1); len(names) == 0 {
		return false, ignoreEOF(err)
	}
	if _, err := from.Seek(0, 0); err != nil {
		return false, err
	}
	readOnly := slices.Contains(m.Options, "ro")
	m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
	fs, err := oci.NewFileSystem(m)
	if err != nil {
		return false, err
	}
	defer fs.Close()
	to, err := disk.OpenBeneath(fs, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer to.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(to.Fd()), &st); err != nil {
		return false, err
	}
	if err := disk.CopyTree(from, to); err != nil {
		return false, err
	}
	if slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "mode=") }) {
		if err := unix.Fchmod(int(to.Fd()), st.Mode&0o7777); err != nil {
			return false, err
		}
	}
	if readOnly {
		if err := unix.MountSetattr(int(fs.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return false, err
		}
	}
	return true, unix.MoveMount(int(fs.Fd()), "", int(from.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// ignoreEOF is Readdirnames' answer for an empty directory.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
