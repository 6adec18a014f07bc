package files

// This file copies chosen files into a root.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	mode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// CopyOptions say how files arrive.
type CopyOptions struct {
	Pick
	Owner    *Owner     // nil keeps the source's
	Mode     *uint32    // permission bits for everything but links; nil keeps the source's
	ModeText string     // chmod(1)'s symbolic form, instead of Mode
	Time     *time.Time // nil keeps the source's
	Contents bool       // of a directory, what is in it, not itself
	Replace  bool       // what is there and of another type is replaced instead of refused
	Unpack   bool       // archives are unpacked
	Unpacked *bool      // nil, or told whether a single archive was
	EmptyOK  bool       // a pattern that matches nothing is no error
	// Required are paths, from the source's root on, that the include patterns must have found.
	Required []string
	// Direct is how to make the files of new directories past the union mount; nil is through it. Who looks into the root afterwards has to mount it anew.
	Direct *Direct
}

// Copy takes files from a source into a root, at dest: a directory that is there or ends in a slash gets them inside. Links in dest are
// followed, inside the root.
func Copy(ctx context.Context, src Source, root *os.File, dest string, o CopyOptions) error {
	paths, err := src.paths(o.Pick)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(paths) == 0 && !o.EmptyOK {
		return fmt.Errorf("%q: not found", "/"+Rel(o.Path))
	}
	if err != nil {
		return err
	}
	// What links name is written, be it there or not; the last of them is not replaced, as in BuildKit.
	slash := strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.")
	if dest, err = Resolve(root, dest); err != nil {
		return err
	}
	if slash {
		dest += "/"
	}
	c := &copier{ctx: ctx, src: src, root: root, o: o, links: map[[2]uint64]string{}, found: map[string]bool{}, buf: make([]byte, minClone)}
	if o.ModeText != "" {
		set, err := mode.ParseWithUmask(o.ModeText, 0)
		if err != nil {
			return fmt.Errorf("cannot use the mode %q: %w", o.ModeText, err)
		}
		c.set = &set
	}
	if o.Direct != nil && len(paths) == 1 { // of several, one may find what another has made
		c.direct = &direct{c: c, Direct: *o.Direct}
	}
	for _, p := range paths {
		if o.Unpack {
			ok, err := c.unpack(p.path, dest)
			if err != nil {
				return err
			}
			if ok {
				continue
			}
		}
		if err := c.one(p, dest); err != nil {
			return err
		}
	}
	for _, name := range o.Required {
		if !c.found[Rel(name)] {
			return fmt.Errorf("%q: not found", name)
		}
	}
	return nil
}

type copier struct {
	ctx   context.Context //nolint:containedctx // the life of one copy
	src   Source
	root  *os.File
	o     CopyOptions
	set   *mode.Set
	links map[[2]uint64]string // where the first name of a file with several went
	found map[string]bool
	dirs  []dirTime
	// direct makes what lies in new directories; nil is off.
	direct *direct
	buf    []byte
}

// dirTime is a directory whose time is set when everything is in it.
type dirTime struct {
	path string
	at   time.Time
}

// parents is the mode of directories made on the way.
func (c *copier) parents() uint32 {
	if c.o.Mode != nil {
		return *c.o.Mode
	}
	return 0o755
}

// one copies one chosen path.
func (c *copier) one(from chosen, dest string) error {
	name := from.path
	st, err := Lstat(c.src.Root, name)
	if Rel(name) == "." {
		st, err = Stat(c.src.Root, ".")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q: not found", "/"+Rel(name))
	}
	if err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	_, err = Stat(c.root, Rel(dest))
	before := err == nil
	if strings.HasSuffix(dest, "/") {
		f, err := MakeAll(c.root, dest, c.parents(), c.o.Owner, c.o.Time)
		if err != nil {
			return err
		}
		_ = f.Close()
	}
	to := Rel(dest)
	there, err := Stat(c.root, to)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	exists := err == nil
	if exists && (isDir && !c.o.Contents || !isDir && there.Mode&unix.S_IFMT == unix.S_IFDIR) {
		to = path.Join(to, from.base)
	}
	made := path.Dir(Rel(to))
	if isDir && c.o.Contents && !exists {
		made = to // the directory itself is not copied: it is made as those above it are
	}
	f, err := MakeAll(c.root, made, c.parents(), c.o.Owner, c.o.Time)
	if err != nil {
		return err
	}
	_ = f.Close()
	if c.direct != nil && isDir && c.o.Contents && (!exists || there.Mode&unix.S_IFMT == unix.S_IFDIR) {
		if err := c.direct.begin(c.root, to, before); err != nil {
			return err
		}
	}
	c.dirs = nil
	err = c.src.Walk(name, c.o.Pick, func(e Entry) error {
		c.found[Rel(path.Join(c.o.Path, e.Rel))] = true
		return c.entry(e, path.Join(to, e.Rel))
	})
	if c.direct != nil {
		err = c.direct.finish(name, err)
	}
	for i := len(c.dirs) - 1; i >= 0 && err == nil; i-- {
		err = c.touchDir(c.dirs[i])
	}
	return err
}

func (c *copier) touchDir(d dirTime) error {
	if Rel(d.path) == "." {
		return nil
	}
	dir, base, err := parent(c.root, d.path)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	return touch(dir, base, d.at)
}

// when is the time a copy gets.
func (c *copier) when(st *unix.Stat_t) time.Time {
	if c.o.Time != nil {
		return *c.o.Time
	}
	return time.Unix(st.Mtim.Unix())
}

// mode is the permission bits a copy gets.
func (c *copier) mode(st *unix.Stat_t) uint32 {
	switch {
	case c.set != nil:
		return Perm(c.set.Apply(fileMode(st.Mode)))
	case c.o.Mode != nil:
		return *c.o.Mode
	}
	return st.Mode & 0o7777
}

func (c *copier) owner(st *unix.Stat_t) *Owner {
	switch {
	case c.o.Owner != nil:
		return c.o.Owner
	case c.src.Flat != nil:
		return c.src.Flat
	}
	return &Owner{st.Uid, st.Gid}
}

// entry copies one file to a path whose directory is there.
func (c *copier) entry(e Entry, to string) error {
	if err := c.ctx.Err(); err != nil {
		return context.Cause(c.ctx)
	}
	kind := e.Stat.Mode & unix.S_IFMT
	if Rel(to) == "." {
		return nil // the root is there, and keeps what it has
	}
	if c.direct != nil && c.direct.covers(to) {
		return c.direct.add(e, to)
	}
	dir, base, err := parent(c.root, to)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	st, err := statAt(dir, base)
	there := err == nil
	if there && kind == unix.S_IFDIR && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		// A directory over a link to one goes where the link leads, inside the root.
		if target, err := Stat(c.root, to); err == nil && target.Mode&unix.S_IFMT == unix.S_IFDIR && !c.o.Replace {
			return nil
		}
	}
	if there && kind == unix.S_IFDIR && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		// As in BuildKit: what is chosen merges into the directory that is there, whose owner and mode stay; a directory below it comes as it is.
		c.dirs = append(c.dirs, dirTime{to, c.when(&e.Stat)})
		if e.Rel == "" {
			return nil
		}
		return c.dress(e, dir, base)
	}
	if there {
		if err := c.makeRoom(dir, base, to, &st, kind); err != nil {
			return err
		}
	}
	switch kind {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(int(dir.Fd()), base, 0o700); err != nil {
			return &os.PathError{Op: "make directory", Path: "/" + to, Err: err}
		}
		c.dirs = append(c.dirs, dirTime{to, c.when(&e.Stat)})
		if c.direct != nil {
			c.direct.below = to
		}
	case unix.S_IFREG:
		if linked, err := c.link(e, c.root, dir, base, to); err != nil || linked {
			return err
		}
		if _, err := c.data(e, dir, base, c.buf); err != nil {
			return err
		}
	case unix.S_IFLNK:
		return c.symlink(e, dir, base)
	case unix.S_IFSOCK:
		return nil // nobody listens on a copy
	default:
		if err := unix.Mknodat(int(dir.Fd()), base, e.Stat.Mode, int(e.Stat.Rdev)); err != nil {
			return fmt.Errorf("cannot copy the device or pipe /%s: %w", to, err)
		}
	}
	return c.dress(e, dir, base)
}

// makeRoom removes what is already at a target of another kind, or refuses to.
func (c *copier) makeRoom(dir *os.File, base, to string, st *unix.Stat_t, kind uint32) error {
	old := st.Mode & unix.S_IFMT
	if (kind == unix.S_IFDIR) != (old == unix.S_IFDIR) && !c.o.Replace {
		if kind == unix.S_IFDIR {
			return fmt.Errorf("cannot copy to non-directory: /%s", to)
		}
		return fmt.Errorf("cannot replace to directory /%s with file", to)
	}
	return removeAt(dir, base)
}

// link makes a hard link for a further name of a file that was copied, beneath root.
func (c *copier) link(e Entry, root, dir *os.File, base, to string) (bool, error) {
	if e.Stat.Nlink < 2 {
		return false, nil
	}
	id := [2]uint64{e.Stat.Dev, e.Stat.Ino}
	first, ok := c.links[id]
	if !ok {
		c.links[id] = to
		return false, nil
	}
	from, name, err := parent(root, first)
	if err != nil {
		return false, err
	}
	defer from.Close() // only read from
	if err := unix.Linkat(int(from.Fd()), name, int(dir.Fd()), base, 0); err != nil {
		return false, fmt.Errorf("cannot link /%s to /%s: %w", to, first, err)
	}
	return true, nil
}

// data copies a file's contents and attributes. The target is new: it did not exist, or was removed. same says that the file is still what it was when it was found.
func (c *copier) data(e Entry, dir *os.File, base string, buf []byte) (same bool, err error) {
	in, err := openAt(e.Dir, e.Base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer in.Close() // only read from
	out, err := openAt(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	err = copyData(out, in, e.Stat.Size, buf)
	if uid := c.owner(&e.Stat); err == nil {
		err = out.Chown(int(uid.UID), int(uid.GID)) // before the attributes: it would clear the capabilities
	}
	for _, name := range attributes(in) {
		if err == nil {
			_ = unix.Fsetxattr(int(out.Fd()), name, attribute(in, name), 0) // as far as the target's file system takes them
		}
	}
	var now unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(in.Fd()), &now)
	}
	return now.Ino == e.Stat.Ino && now.Size == e.Stat.Size && now.Mtim == e.Stat.Mtim && now.Ctim == e.Stat.Ctim, errors.Join(err, out.Close())
}

func (c *copier) symlink(e Entry, dir *os.File, base string) error {
	target, err := readlinkAt(e.Dir, e.Base)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, int(dir.Fd()), base); err != nil {
		return &os.PathError{Op: "make link", Path: base, Err: err}
	}
	owner := c.owner(&e.Stat)
	if err := unix.Fchownat(int(dir.Fd()), base, int(owner.UID), int(owner.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "change the owner of", Path: base, Err: err}
	}
	return touch(dir, base, c.when(&e.Stat))
}

// dress gives a copy its owner, mode and time; a file has its owner already.
func (c *copier) dress(e Entry, dir *os.File, base string) error {
	var owner *Owner
	if e.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
		owner = c.owner(&e.Stat)
	}
	at := c.when(&e.Stat)
	if err := dress(dir, base, c.mode(&e.Stat), owner, &at); err != nil {
		return fmt.Errorf("cannot copy /%s: %w", e.Rel, err)
	}
	return nil
}

// fileMode and Perm translate between the kernel's bits and Go's.
func fileMode(m uint32) os.FileMode {
	f := os.FileMode(m & 0o777)
	for bit, flag := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if m&bit != 0 {
			f |= flag
		}
	}
	if m&unix.S_IFMT == unix.S_IFDIR {
		f |= os.ModeDir
	}
	return f
}

// Perm is Go's mode in the kernel's permission bits.
func Perm(f os.FileMode) uint32 {
	m := uint32(f.Perm())
	for bit, flag := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if f&flag != 0 {
			m |= bit
		}
	}
	return m
}
