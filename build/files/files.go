// Package files reads and writes trees of files beneath a root descriptor: copying, removing, making, unpacking and hashing, as the
// instructions of a Dockerfile ask for it.
//
// Nothing is ever opened by a path of the host: each look-up is an openat2(2) that cannot leave its root, each write goes into a
// descriptor of its parent directory. It runs in any process that may write to the tree; ids are those of its user namespace.
package files

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Owner is what files get as their owner; nil pointers of it keep the source's.
type Owner struct{ UID, GID uint32 }

// Rel makes a path relative to the root it is beneath; the root itself is ".".
func Rel(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// OpenDir opens a directory beneath root for reading; links are followed and stay inside.
func OpenDir(root *os.File, name string) (*os.File, error) {
	return disk.OpenBeneath(root, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// openAt opens one name in a directory, following nothing.
func openAt(dir *os.File, name string, flags int, perm uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// statAt is lstat(2) of a name in a directory.
func statAt(dir *os.File, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return st, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return st, nil
}

// Lstat describes what is at a path beneath root, without following a link at its end.
func Lstat(root *os.File, name string) (unix.Stat_t, error) {
	rel := Rel(name)
	dir, err := disk.OpenBeneath(root, path.Dir(rel), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer dir.Close() // a directory that was looked into
	return statAt(dir, path.Base(rel))
}

// Stat describes what a path beneath root leads to.
func Stat(root *os.File, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := disk.OpenBeneath(root, name, unix.O_PATH, 0)
	if err != nil {
		return st, err
	}
	defer f.Close() // nothing was written
	return st, unix.Fstat(int(f.Fd()), &st)
}

// MakeAll makes a directory and its missing parents beneath root, which get perm, owner and time (when set), and opens it.
func MakeAll(root *os.File, name string, perm uint32, owner *Owner, at *time.Time) (*os.File, error) {
	if f, err := OpenDir(root, name); err == nil || !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	parts := strings.Split(Rel(name), "/")
	for i, part := range parts {
		so := strings.Join(parts[:i], "/")
		parent, err := OpenDir(root, so)
		if err != nil {
			return nil, err
		}
		err = unix.Mkdirat(int(parent.Fd()), part, 0o700)
		if err == nil {
			err = dress(parent, part, perm, owner, at)
		} else if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		_ = parent.Close()
		if err != nil {
			return nil, &os.PathError{Op: "make directory", Path: strings.Join(parts[:i+1], "/"), Err: err}
		}
	}
	return OpenDir(root, name)
}

// Resolve follows the links in a path beneath root, also those that lead to what is not there yet, and returns the path without links. A
// link that begins with / begins at the root; what is above the root is the root.
func Resolve(root *os.File, name string) (string, error) {
	done, rest := ".", strings.Split(Rel(name), "/")
	for links := 0; len(rest) > 0; {
		next := Rel(path.Join("/", done, rest[0]))
		rest = rest[1:]
		if next == "." {
			done = next
			continue
		}
		dir, base, err := parent(root, next)
		if err != nil {
			return "", err
		}
		target, err := readlinkAt(dir, base)
		_ = dir.Close() // nothing was written
		switch {
		case errors.Is(err, unix.ENOENT):
			return Rel(path.Join("/", next, path.Join(rest...))), nil
		case errors.Is(err, unix.EINVAL): // no link
			done = next
			continue
		case err != nil:
			return "", err
		}
		if links++; links > 40 {
			return "", &os.PathError{Op: "follow the links of", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			done = "."
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return done, nil
}

// dress gives a name in a directory owner, mode (of the permission bits) and time. The owner comes first: chown(2) clears set-id bits.
func dress(dir *os.File, name string, perm uint32, owner *Owner, at *time.Time) error {
	fd := int(dir.Fd())
	if owner != nil {
		if err := unix.Fchownat(fd, name, int(owner.UID), int(owner.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("change the owner to %d:%d: %w", owner.UID, owner.GID, err)
		}
	}
	if err := unix.Fchmodat(fd, name, perm&0o7777, 0); err != nil {
		return fmt.Errorf("change the mode: %w", err)
	}
	if at != nil {
		return touch(dir, name, *at)
	}
	return nil
}

// touch sets access and modification time of a name, not following it.
func touch(dir *os.File, name string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// removeAt removes a name in a directory with all that is below it; mount points and links are not followed.
func removeAt(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	sub, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	names, err := sub.Readdirnames(-1)
	for _, n := range names {
		if err == nil {
			err = removeAt(sub, n)
		}
	}
	_ = sub.Close()
	if err == nil {
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// wildcard says whether a path has characters that Glob gives a meaning to.
func wildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// Glob lists the paths beneath root that a pattern of path.Match's syntax matches, sorted within each directory.
func Glob(root *os.File, pattern string) ([]string, error) {
	found := []string{""}
	for _, part := range strings.Split(Rel(pattern), "/") {
		var next []string
		for _, dir := range found {
			if part == "." || !wildcard(part) {
				next = append(next, path.Join(dir, unescape(part)))
				continue
			}
			names, err := list(root, dir)
			if err != nil {
				continue // not a directory: it has nothing to match
			}
			for _, n := range names {
				ok, err := path.Match(part, n)
				if err != nil {
					return nil, fmt.Errorf("cannot match %q: %w", pattern, err)
				}
				if ok {
					next = append(next, path.Join(dir, n))
				}
			}
		}
		found = next
	}
	present := found[:0]
	for _, name := range found {
		if _, err := Lstat(root, name); err == nil {
			present = append(present, name)
		}
	}
	return present, nil
}

// unescape takes the backslashes of a pattern's literal part away.
func unescape(part string) string {
	var b strings.Builder
	for i := 0; i < len(part); i++ {
		if part[i] == '\\' && i+1 < len(part) {
			i++
		}
		b.WriteByte(part[i])
	}
	return b.String()
}
