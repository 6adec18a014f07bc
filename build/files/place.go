package files

// This file puts the changes of an upper directory into a directory of its own: as further names of the same files, or as copies.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// placer fills one directory.
type placer struct {
	link   bool                 // files become links; nobody may write to them on either side afterwards
	latest time.Time            // of copies: later times become this one; zero leaves all
	copies map[[2]uint64]string // where the first name of a file with several went, from into on
	into   *os.File
	buf    []byte
}

// place puts what is in one directory into another that is empty.
func place(into, from *os.File, link bool, latest time.Time) error {
	p := &placer{link: link, latest: latest, copies: map[[2]uint64]string{}, into: into, buf: make([]byte, minClone)}
	return p.directory(into, from, "")
}

// alone says that a file must not get a second name: cron refuses such files, and these are the places where it reads.
func alone(full string) bool {
	return full == "etc" || strings.HasPrefix(full, "etc/") || full == "var/spool" || strings.HasPrefix(full, "var/spool/")
}

func (p *placer) directory(into, from *os.File, at string) error {
	dir, names, err := entries(from)
	if err != nil {
		return err
	}
	defer dir.Close() // only read from
	link := p.link && !alone(at)
	for _, name := range names {
		if link {
			err := unix.Linkat(int(dir.Fd()), name, int(into.Fd()), name, 0)
			if err == nil {
				continue
			}
			if !unlinkable(err) {
				return &os.PathError{Op: "link", Path: path.Join(at, name), Err: err}
			}
		}
		if err := p.entry(into, dir, name, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// unlinkable tells errors that say that this cannot have another name (it is a directory, it has too many), or not there, from those of a full or broken disk.
func unlinkable(err error) bool {
	return errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)
}

// entry makes a directory with all that is in it, or a copy of something else.
func (p *placer) entry(into, from *os.File, name, full string) error {
	st, err := statAt(from, name)
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = p.subdirectory(into, from, name, full)
	case unix.S_IFREG:
		var done bool
		if done, err = p.again(into, name, full, &st); done || err != nil {
			return err
		}
		err = copyFile(into, from, name, &st, p.buf)
	case unix.S_IFLNK:
		var target string
		if target, err = readlinkAt(from, name); err == nil {
			err = unix.Symlinkat(target, int(into.Fd()), name)
		}
		if err == nil {
			err = unix.Fchownat(int(into.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err == nil {
			err = touch(into, name, p.when(&st))
		}
		return err
	case unix.S_IFSOCK:
		return nil // nobody listens on a copy
	default: // whiteouts are character devices
		err = unix.Mknodat(int(into.Fd()), name, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return &os.PathError{Op: "copy", Path: full, Err: err}
	}
	at := p.when(&st)
	return dress(into, name, st.Mode&0o7777, &Owner{st.Uid, st.Gid}, &at)
}

func (p *placer) when(st *unix.Stat_t) time.Time {
	if at := time.Unix(st.Mtim.Unix()); p.latest.IsZero() || at.Before(p.latest) {
		return at
	}
	return p.latest
}

// again links a further name of a file that was copied.
func (p *placer) again(into *os.File, name, full string, st *unix.Stat_t) (bool, error) {
	if st.Nlink < 2 {
		return false, nil
	}
	id := [2]uint64{st.Dev, st.Ino}
	first, ok := p.copies[id]
	if !ok {
		p.copies[id] = full
		return false, nil
	}
	dir, base, err := parent(p.into, first)
	if err != nil {
		return false, err
	}
	defer dir.Close() // only read from
	return true, unix.Linkat(int(dir.Fd()), base, int(into.Fd()), name, 0)
}

func (p *placer) subdirectory(into, from *os.File, name, full string) error {
	source, err := openAt(from, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer source.Close() // only read from
	if err := unix.Mkdirat(int(into.Fd()), name, 0o700); err != nil {
		return err
	}
	target, err := openAt(into, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer target.Close() // nothing is buffered
	names := attributes(source)
	if opaque(source) {
		names = append(names, opaqueNames()...)
	}
	if err := copyAttributes(target, source, names); err != nil {
		return err
	}
	return p.directory(target, source, full)
}

// copyAttributes writes attributes of one file to another.
func copyAttributes(to, from *os.File, names []string) error {
	for _, name := range names {
		value := attribute(from, name)
		if value == nil && strings.HasSuffix(name, ".opaque") {
			continue // one of several spellings
		}
		if err := unix.Fsetxattr(int(to.Fd()), name, value, 0); err != nil {
			return fmt.Errorf("write the attribute %s: %w", name, err)
		}
	}
	return nil
}

// copyFile copies contents and attributes of a file to a new one of the same name. Where the file system can share the blocks it does.
func copyFile(into, from *os.File, name string, st *unix.Stat_t, buf []byte) error {
	in, err := openAt(from, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close() // only read from
	out, err := openAt(into, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyData(out, in, st.Size, buf)
	if err == nil {
		err = out.Chown(int(st.Uid), int(st.Gid)) // before the attributes: it would clear the capabilities
	}
	if err == nil {
		err = copyAttributes(out, in, attributes(in))
	}
	return errors.Join(err, out.Close())
}

// minClone is the size from which it is worth asking the file system to share or copy blocks by itself.
const minClone = 1 << 17

// copyData copies what is in a file to an empty one. size is what the file had when it was looked at: a guess at how to go about it.
func copyData(out, in *os.File, size int64, buf []byte) error {
	if size < minClone {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, buf) // one read and one write
		return err
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	_, err := io.Copy(out, in) // copy_file_range(2) within a file system
	return err
}
