package archive

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Writer puts entries beneath a directory. What is there is replaced whole, by a rename; directories are merged.
type Writer struct {
	Root *os.File // an O_PATH descriptor of the directory
	// Owners keeps the entries' owners, and set-user-id bits with them; without it everything belongs to root of the namespace.
	Owners bool
	// SetID keeps set-user-id and set-group-id bits without Owners.
	SetID bool
	// Warn is told of what is left out: device nodes, which only a privileged user can make.
	Warn  func(text string)
	Bytes int64 // contents written

	times []stamp
}

// stamp is a directory's time, set when all is in it.
type stamp struct {
	dir *os.File
	at  time.Time
}

// overflowID is the owner of files whose owner has no number in the user namespace (user_namespaces(7)).
const overflowID = 65534

// beneath is how parents are resolved: no link is followed.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Put implements Put. Entries with names that lead out are put as if the directory were "/".
func (w *Writer) Put(h *tar.Header, content io.Reader) error {
	name := inside(h.Name)
	if name == "." {
		return nil // the directory itself stays as it is
	}
	parent, err := w.parent(path.Dir(name))
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", h.Name, err)
	}
	defer parent.Close()
	base := path.Base(name)
	if h.Typeflag == tar.TypeDir {
		err = w.directory(parent, base, h)
	} else {
		err = w.file(parent, base, h, content)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", h.Name, err)
	}
	return nil
}

func inside(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// parent opens a directory of the tree, and makes it if an archive did not mention it.
func (w *Writer) parent(name string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath}
	fd, err := openat2(int(w.Root.Fd()), name, &how)
	if errors.Is(err, unix.ENOENT) && name != "." {
		up, upErr := w.parent(path.Dir(name))
		if upErr != nil {
			return nil, upErr
		}
		err = unix.Mkdirat(int(up.Fd()), path.Base(name), 0o755)
		up.Close()
		if err == nil || errors.Is(err, unix.EEXIST) {
			fd, err = openat2(int(w.Root.Fd()), name, &how)
		}
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is or lies beneath a symbolic link, which is not followed here", name)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (w *Writer) directory(parent *os.File, base string, h *tar.Header) error {
	err := unix.Mkdirat(int(parent.Fd()), base, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: beneath}
	fd, err := openat2(int(parent.Fd()), base, &how)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errors.New("cannot overwrite non-directory with directory")
	}
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), base)
	if err := w.owner(dir, h); err != nil {
		dir.Close()
		return err
	}
	w.times = append(w.times, stamp{dir, h.ModTime})
	if len(w.times) > maxStamps { // descriptors are few: the oldest gets its time now
		old := w.times[0]
		w.times = w.times[1:]
		return old.set()
	}
	return nil
}

// maxStamps is how many directories wait for their time.
const maxStamps = 32

func (s stamp) set() error {
	at, err := unix.TimeToTimespec(s.at)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, handle(s.dir), []unix.Timespec{at, at}, 0)
	}
	return errors.Join(err, s.dir.Close())
}

// Close gives directories their times.
func (w *Writer) Close() error {
	var errs []error
	for _, s := range w.times {
		errs = append(errs, s.set())
	}
	w.times = nil
	return errors.Join(errs...)
}

// file makes an entry under a name of its own and renames it to where it belongs.
func (w *Writer) file(parent *os.File, base string, h *tar.Header, content io.Reader) error {
	at, temp := int(parent.Fd()), ".skiff-"+rand.Text()
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		err = w.regular(parent, temp, h, content)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, at, temp)
	case tar.TypeLink:
		err = w.link(parent, temp, h.Linkname)
	case tar.TypeFifo:
		err = unix.Mknodat(at, temp, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		if w.Warn != nil {
			w.Warn(h.Name + " is a device node, which cannot be made without privileges: left out")
		}
		return nil
	default:
		return fmt.Errorf("it is an entry of type %q, which is not known", h.Typeflag)
	}
	if err == nil && (h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeFifo) {
		err = w.finish(parent, temp, h)
	}
	if err == nil {
		err = unix.Renameat(at, temp, at, base)
	}
	// Two links of one file: rename(2) does nothing and leaves both names.
	if gone := unix.Unlinkat(at, temp, 0); err == nil && gone != nil && !errors.Is(gone, unix.ENOENT) {
		err = gone
	}
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return errors.New("cannot overwrite directory with non-directory")
	case errors.Is(err, unix.EBUSY):
		return errors.New("something is mounted on it, so it cannot be replaced")
	}
	return err
}

func (w *Writer) regular(parent *os.File, temp string, h *tar.Header, content io.Reader) (err error) {
	fd, err := unix.Openat(int(parent.Fd()), temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), h.Name)
	defer func() { err = errors.Join(err, out.Close()) }()
	if content != nil {
		n, err := io.Copy(out, content)
		w.Bytes += n
		if err != nil {
			return bare(err)
		}
	}
	if err := w.owner(out, h); err != nil {
		return err
	}
	if value, ok := h.PAXRecords[paxXattr+capability]; ok && w.Owners {
		if err := unix.Fsetxattr(fd, capability, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("its capabilities: %w", err)
		}
	}
	at, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, handle(out), []unix.Timespec{at, at}, 0)
}

// link makes another name of a file that an earlier entry has put.
func (w *Writer) link(parent *os.File, temp, to string) error {
	to = inside(to)
	from, err := w.parent(path.Dir(to))
	if err != nil {
		return err
	}
	defer from.Close()
	return unix.Linkat(int(from.Fd()), path.Base(to), int(parent.Fd()), temp, 0) // 0: a link in its place is not followed
}

// finish gives owner, mode and time to what cannot be opened for writing.
func (w *Writer) finish(parent *os.File, temp string, h *tar.Header) error {
	fd, err := unix.Openat(int(parent.Fd()), temp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temp)
	defer f.Close()
	if err := w.owner(f, h); err != nil {
		return err
	}
	at, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(parent.Fd()), temp, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// owner gives a file its owner and, after that, its mode: changing the owner clears set-user-id.
func (w *Writer) owner(f *os.File, h *tar.Header) error {
	uid, gid, mode := 0, 0, uint32(h.Mode)&0o7777
	if w.Owners {
		uid, gid = mapped(h.Uid), mapped(h.Gid)
	} else if !w.SetID && h.Typeflag != tar.TypeDir {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if err := unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("its owner %d:%d has no number in your user namespace (see /etc/subuid)", uid, gid)
		}
		return fmt.Errorf("its owner %d:%d: %w", uid, gid, err)
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	return unix.Chmod(handle(f), mode)
}

func mapped(id int) int {
	if id == overflowID {
		return 0
	}
	return id
}
