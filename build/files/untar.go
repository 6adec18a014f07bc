package files

// This file unpacks archives beneath a root: ADD's local archives, and contexts that are archives.

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"time"

	"github.com/moby/go-archive/compression"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// IsArchive says whether a file's beginning is that of a tar archive, plain or compressed (gzip, bzip2, xz, zstd). A program that is missing for that is an error.
func IsArchive(head []byte) (bool, error) {
	stream, err := compression.DecompressStream(bytes.NewReader(head))
	var missing *exec.Error
	if errors.As(err, &missing) {
		return false, err
	}
	if err != nil {
		return false, nil
	}
	defer stream.Close()                  //nolint:errcheck // only read from
	_, err = tar.NewReader(stream).Next() // a header of several blocks, too; the end of the head cuts off what comes later
	return err == nil, nil
}

// unpack unpacks a chosen file into dest, if it is an archive, and says whether it was.
func (c *copier) unpack(name, dest string) (bool, error) {
	f, err := disk.OpenBeneath(c.src.Root, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close() // only read from
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, err
	}
	head := make([]byte, 64<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false, err
	}
	if is, err := IsArchive(head[:n]); err != nil || !is {
		return false, err
	}
	if c.o.Unpacked != nil {
		*c.o.Unpacked = true
	}
	if err := Unpack(c.ctx, io.MultiReader(bytes.NewReader(head[:n]), f), c.root, dest, c.o.Owner, c.o.Time); err != nil {
		return false, fmt.Errorf("cannot unpack %s: %w", name, err)
	}
	return true, nil
}

// Unpack unpacks an archive, plain or compressed, into a directory beneath root. Owner and at replace those of the archive.
func Unpack(ctx context.Context, archive io.Reader, root *os.File, dest string, owner *Owner, at *time.Time) error {
	stream, err := compression.DecompressStream(archive)
	if err != nil {
		return err
	}
	defer stream.Close() //nolint:errcheck // only read from
	f, err := MakeAll(root, dest, 0o755, owner, at)
	if err != nil {
		return err
	}
	defer f.Close() // nothing is buffered
	var dirs []*tar.Header
	r := tar.NewReader(stream)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if at != nil {
			h.ModTime = *at
		}
		if owner != nil {
			h.Uid, h.Gid = int(owner.UID), int(owner.GID)
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, h)
		}
		// An archive's names are looked up from its own directory: neither dots nor links lead out of it.
		if err := unpackOne(f, h, r); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if dir, base, err := parent(f, dirs[i].Name); err == nil {
			_ = touch(dir, base, dirs[i].ModTime) // one that a later entry replaced has no time to set
			_ = dir.Close()
		}
	}
	_, err = io.Copy(io.Discard, stream)
	return err
}

// unpackOne makes one entry.
func unpackOne(root *os.File, h *tar.Header, r io.Reader) error {
	if Rel(h.Name) == "." {
		return nil
	}
	up, err := MakeAll(root, path.Dir(Rel(h.Name)), 0o755, nil, nil)
	if err != nil {
		return err
	}
	defer up.Close() // nothing is buffered
	base := path.Base(Rel(h.Name))
	fd := int(up.Fd())
	if st, err := statAt(up, base); err == nil && (h.Typeflag != tar.TypeDir || st.Mode&unix.S_IFMT != unix.S_IFDIR) {
		if err := removeAt(up, base); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err = unix.Mkdirat(fd, base, 0o700); errors.Is(err, unix.EEXIST) {
			err = nil
		}
	case tar.TypeReg, tar.TypeRegA: //nolint:staticcheck // old archives have it
		err = unpackFile(up, base, h, r)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, fd, base); err != nil {
			return err
		}
		if err := unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		return touch(up, base, h.ModTime)
	case tar.TypeLink:
		from, name, err := parent(root, h.Linkname)
		if err != nil {
			return err
		}
		defer from.Close() // only read from
		return unix.Linkat(int(from.Fd()), name, fd, base, 0)
	case tar.TypeFifo:
		err = unix.Mkfifoat(fd, base, 0o600)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("it is a device or of an unknown kind (%q), which an unprivileged user cannot make", h.Typeflag)
	}
	if err != nil {
		return err
	}
	perm := uint32(h.Mode) & 0o7777
	return dress(up, base, perm, &Owner{uint32(h.Uid), uint32(h.Gid)}, &h.ModTime)
}

// unpackFile writes a file's contents and attributes.
func unpackFile(dir *os.File, base string, h *tar.Header, r io.Reader) error {
	f, err := openAt(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chown(h.Uid, h.Gid)
	}
	for key, value := range h.PAXRecords {
		if name, ok := cutXattr(key); ok && err == nil {
			_ = unix.Fsetxattr(int(f.Fd()), name, []byte(value), 0) // as far as the target's file system takes them
		}
	}
	return errors.Join(err, f.Close())
}

// cutXattr is the attribute that a record of a tar header holds; the union mount's own are not taken from anybody.
func cutXattr(key string) (string, bool) {
	const prefix = "SCHILY.xattr."
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return "", false
	}
	name := key[len(prefix):]
	return name, travels(name)
}
