// Package archive moves file trees in and out of roots that somebody else controls, as streams of tar entries: Walk reads a tree beneath a
// descriptor, Writer puts entries beneath one. Names are resolved one directory at a time from open descriptors and no link is ever
// followed, so a process that renames and swaps links meanwhile (CVE-2018-15664) can spoil its own copy and reach nothing else.
//
// Its code runs inside the user's user namespace: owners are the ids that the container sees. Only the engine links it.
package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Put takes one entry; content is nil unless it is a regular file with a size.
type Put func(h *tar.Header, content io.Reader) error

// capability is the one extended attribute that entries carry, as Docker's do.
const capability = "security.capability"

// paxXattr begins the PAX records of extended attributes.
const paxXattr = "SCHILY.xattr."

// Walk gives put an entry for the file of an O_PATH descriptor, called as, and for all below it. With oneMount, what is mounted below appears
// as the empty directory or file it is mounted on. Sockets mean nothing without their process and are left out. A file that vanishes meanwhile is left out.
func Walk(f *os.File, as string, oneMount bool, put Put) error {
	return (&walker{put: put, oneMount: oneMount, seen: map[[2]uint64]string{}}).entry(f, as)
}

type walker struct {
	put      Put
	oneMount bool
	seen     map[[2]uint64]string // names of files with several links
}

// handle names a descriptor for the calls that take no O_PATH descriptor; it is our own /proc.
func handle(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func (w *walker) entry(f *os.File, as string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("cannot read %s: %w", as, err)
	}
	h := header(as, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
		if err := w.put(h, nil); err != nil {
			return err
		}
		return w.directory(f, as)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", buf)
		if err != nil {
			return fmt.Errorf("cannot read the link %s: %w", as, err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(buf[:n])
	case unix.S_IFREG:
		return w.regular(f, h, &st)
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil
	}
	return w.put(h, nil)
}

// header is what all kinds of files have in common.
func header(as string, st *unix.Stat_t) *tar.Header {
	return &tar.Header{
		Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
}

// regular opens the very file that was looked at: a FIFO or device in its place is never opened.
func (w *walker) regular(f *os.File, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		key := [2]uint64{st.Dev, st.Ino}
		if first, ok := w.seen[key]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return w.put(h, nil)
		}
		w.seen[key] = h.Name
	}
	in, err := os.OpenFile(handle(f), unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", h.Name, bare(err))
	}
	defer in.Close()
	value := make([]byte, 64)
	if n, err := unix.Fgetxattr(int(in.Fd()), capability, value); err == nil {
		h.PAXRecords = map[string]string{paxXattr + capability: string(value[:n])}
	}
	h.Size = st.Size
	if st.Size == 0 { // files of /proc say so and have contents
		return w.unsized(in, h)
	}
	return w.put(h, io.LimitReader(in, st.Size))
}

// maxUnsized is how much of a file is taken that says it is empty.
const maxUnsized = 16 << 20

func (w *walker) unsized(in *os.File, h *tar.Header) error {
	data, err := io.ReadAll(io.LimitReader(in, maxUnsized))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", h.Name, bare(err))
	}
	h.Size = int64(len(data))
	return w.put(h, bytes.NewReader(data))
}

func (w *walker) directory(f *os.File, as string) error {
	dir, err := os.OpenFile(handle(f), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot read the directory %s: %w", as, bare(err))
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot read the directory %s: %w", as, bare(err))
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.child(dir, name, path.Join(as, name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) child(dir *os.File, name, as string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	if w.oneMount {
		how.Resolve |= unix.RESOLVE_NO_XDEV
	}
	fd, err := openat2(int(dir.Fd()), name, &how)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EXDEV) && w.oneMount:
		return w.mountPoint(dir, name, as)
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", as, err)
	}
	f := os.NewFile(uintptr(fd), as)
	defer f.Close()
	return w.entry(f, as)
}

// mountPoint is an entry for what something is mounted on, which cannot be seen from here.
func (w *walker) mountPoint(dir *os.File, name, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot read %s: %w", as, err)
	}
	h := &tar.Header{Name: as, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		h.Name, h.Typeflag, h.Mode = as+"/", tar.TypeDir, 0o755
	}
	return w.put(h, nil)
}

// openat2 repeats what a signal or a rename interrupted.
func openat2(dir int, name string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// bare drops the path that an error repeats.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
