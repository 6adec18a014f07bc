package files

// This file writes archives: of a whole tree, and of the changes in the upper directory of a union mount, as images' layers want them.

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TarOptions of Tar.
type TarOptions struct {
	// Changes says that the tree is an upper directory: its whiteouts and opaque directories are written as OCI's (image-spec, layer.md).
	Changes bool
	// Latest is the time that later ones become; zero leaves all.
	Latest time.Time
}

// Part is a tree in an archive of several: it goes below a directory, "" for none.
type Part struct {
	Below string
	Root  *os.File
}

// Tar writes a tree as an archive, sorted: the same tree gives the same bytes.
func Tar(w io.Writer, root *os.File, o TarOptions) error {
	return TarAll(w, []Part{{Root: root}}, o)
}

// TarAll writes several trees as one archive.
func TarAll(w io.Writer, parts []Part, o TarOptions) error {
	all := tar.NewWriter(w)
	for _, p := range parts {
		t := &tarrer{w: all, o: o, links: map[[2]uint64]string{}}
		if p.Below != "" {
			if err := all.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: p.Below + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
				return fmt.Errorf("cannot write an archive: %w", err)
			}
		}
		if err := t.directory(p.Root, p.Below); err != nil {
			return fmt.Errorf("cannot write an archive: %w", err)
		}
	}
	return all.Close()
}

type tarrer struct {
	w       *tar.Writer
	o       TarOptions
	links   map[[2]uint64]string
	entered func(h *tar.Header, f *os.File) error // nil, or writes a header and what is in its file
	sockets []string                              // left out
}

// write writes an entry; f has a regular file's contents.
func (t *tarrer) write(h *tar.Header, f *os.File) error {
	if t.entered != nil {
		return t.entered(h, f)
	}
	if err := t.w.WriteHeader(h); err != nil || f == nil {
		return err
	}
	_, err := io.CopyN(t.w, f, h.Size)
	return err
}

// directory writes what is in an open directory.
func (t *tarrer) directory(parent *os.File, at string) error {
	dir, err := openAt(parent, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close() // only read from
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	if t.o.Changes && at != "" && opaque(dir) {
		if err := t.write(&tar.Header{Typeflag: tar.TypeReg, Name: at + "/.wh..wh..opq", ModTime: time.Unix(0, 0)}, nil); err != nil {
			return err
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := t.entry(dir, name, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// opaque says whether an upper directory hides what is below it.
func opaque(dir *os.File) bool {
	for _, name := range opaqueNames() {
		if v := attribute(dir, name); string(v) == "y" || string(v) == "x" {
			return true
		}
	}
	return false
}

// opaqueNames are the spellings of the attribute that says it.
func opaqueNames() []string {
	return []string{"user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque"}
}

func (t *tarrer) entry(dir *os.File, name, full string) error {
	st, err := statAt(dir, name)
	if err != nil {
		return err
	}
	h := &tar.Header{
		Name: full, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	if !t.o.Latest.IsZero() && h.ModTime.After(t.o.Latest) {
		h.ModTime = t.o.Latest
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return t.subdirectory(dir, name, full, h)
	case unix.S_IFREG:
		return t.file(dir, name, h, &st)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readlinkAt(dir, name); err != nil {
			return err
		}
	case unix.S_IFCHR:
		if st.Rdev == 0 && t.o.Changes {
			h = &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Dir(full), ".wh."+name), ModTime: time.Unix(0, 0)}
			break
		}
		h.Typeflag = tar.TypeChar
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		t.sockets = append(t.sockets, full) // nothing without their listener
		return nil
	}
	return t.write(h, nil)
}

func (t *tarrer) subdirectory(dir *os.File, name, full string, h *tar.Header) error {
	sub, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sub.Close() // only read from
	h.Typeflag, h.Name = tar.TypeDir, full+"/"
	keep(h, sub)
	if err := t.write(h, nil); err != nil {
		return err
	}
	return t.directory(sub, full)
}

func (t *tarrer) file(dir *os.File, name string, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if st.Nlink > 1 {
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := t.links[id]; ok {
			h.Typeflag, h.Size, h.Linkname = tar.TypeLink, 0, first
			return t.write(h, nil)
		}
		t.links[id] = h.Name
	}
	f, err := openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	keep(h, f)
	return t.write(h, f)
}

// keep writes a file's attributes into its header.
func keep(h *tar.Header, f *os.File) {
	for _, name := range attributes(f) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		if v := attribute(f, name); !strings.Contains(name, "=") {
			h.PAXRecords["SCHILY.xattr."+name] = string(v)
		}
	}
}
