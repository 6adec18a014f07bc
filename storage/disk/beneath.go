package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Beneath is how paths that come from an image or a container are resolved: absolute and relative links stay inside the root, and /proc's magic links are not
// followed (openat2(2), Linux 5.6).
const Beneath = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// OpenBeneath opens name as seen from root as if root were "/".
func OpenBeneath(root *os.File, name string, flags int, perm uint32) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: Beneath}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(perm)
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), relative(name), &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue // a rename raced with the look-up (openat2(2), EAGAIN)
		case errors.Is(err, unix.ENOSYS):
			return nil, fmt.Errorf("cannot open %s: the kernel has no openat2, skiff needs Linux 5.6 or later", name)
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

func relative(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// MkdirAllBeneath makes a directory and its parents as seen from root, and opens it (O_PATH).
func MkdirAllBeneath(root *os.File, name string, perm os.FileMode) (*os.File, error) {
	if f, err := OpenBeneath(root, name, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil || !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	parts := strings.Split(relative(name), "/")
	for i, part := range parts {
		parent, err := OpenBeneath(root, strings.Join(parts[:i], "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		err = unix.Mkdirat(int(parent.Fd()), part, uint32(perm.Perm()))
		parent.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &os.PathError{Op: "mkdir", Path: strings.Join(parts[:i+1], "/"), Err: err}
		}
	}
	return OpenBeneath(root, name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// ReadFileBeneath reads a regular file of at most limit bytes as seen from root. FIFOs and devices are refused without blocking on them (CVE-2024-9676).
func ReadFileBeneath(root *os.File, name string, limit int64) ([]byte, error) {
	f, err := OpenBeneath(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &os.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d bytes", limit)}
	}
	return data, err
}
