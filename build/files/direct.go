package files

// This file copies what lies in new directories past the union mount. Nothing of the layers below shows in a directory that a copy has made: its files can be
// made in the upper directory itself, several at a time, and those that an earlier result of the same copy has need not be made at all.

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Direct is how a copy writes past the union mount.
type Direct struct {
	// Upper is the mount's upper directory. Only directories that the copy makes are written to, so nothing that the mount has looked up is changed behind its back.
	Upper *os.File
	// Memory are the digests of the source's files; nil is none.
	Memory Remember
	// Earlier is an upper directory that an earlier copy has filled, nil for none, and Has the digests of its files by path. A file that would be the same becomes
	// another name of that one. Both must be changes to the same layers: no union mount then ever shows two of the names.
	Earlier *os.File
	Has     map[string]string
	// Made, unless nil, is called with the digest of each file that was made and whose digest is known, one at a time.
	Made func(path, sum string)
}

// direct is a copy that writes past the mount.
type direct struct {
	Direct
	c     *copier
	below string // a directory that is new, or was empty
	dirs  []dirTime

	next  *batch
	queue chan *batch
	work  *errgroup.Group
	ctx   context.Context //nolint:containedctx // the life of one copy

	mu    sync.Mutex
	links []linked
}

// batch is files of one directory.
type batch struct {
	from *os.File // the source's directory, the batch's own descriptor
	to   string   // the directory from the upper directory on
	list []Entry
}

// maxBatch keeps what waits small, and all processors busy with one large directory.
const maxBatch = 256

// linked is a file with several names: they are made in order, after all others.
type linked struct {
	e  Entry // without its directory
	to string
}

// begin says that a copy fills a directory, which the mount's root has by now; before says that it was there before the copy. An empty one is as good as a new one.
func (d *direct) begin(root *os.File, to string, before bool) error {
	if to == "." {
		return nil
	}
	if before {
		dir, err := OpenDir(root, to)
		if err != nil {
			return err
		}
		defer dir.Close() // only looked into
		if names, err := dir.Readdirnames(1); len(names) > 0 || err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
			return err
		}
		// The mount copies it into the upper directory.
		if err := unix.UtimesNanoAt(int(dir.Fd()), ".", []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
			return &os.PathError{Op: "change the time of", Path: "/" + to, Err: err}
		}
	}
	d.below = to
	return nil
}

// covers says whether a path lies in a new directory.
func (d *direct) covers(to string) bool {
	return d.below != "" && strings.HasPrefix(to, d.below) && len(to) > len(d.below) && to[len(d.below)] == '/'
}

// add makes a directory, or hands something else to the workers.
func (d *direct) add(e Entry, to string) error {
	switch e.Stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return d.mkdir(e, to)
	case unix.S_IFSOCK:
		return nil // nobody listens on a copy
	case unix.S_IFREG:
		if e.Stat.Nlink > 1 {
			e.Dir = nil
			d.links = append(d.links, linked{e, to})
			return nil
		}
	}
	if d.next != nil && (d.next.to != path.Dir(to) || len(d.next.list) == maxBatch) {
		if err := d.send(); err != nil {
			return err
		}
	}
	if d.next == nil {
		from, err := openAt(e.Dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		d.next = &batch{from: from, to: path.Dir(to)}
	}
	e.Dir = nil
	d.next.list = append(d.next.list, e)
	return nil
}

func (d *direct) mkdir(e Entry, to string) error {
	dir, err := d.open(d.Upper, path.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	if err := unix.Mkdirat(int(dir.Fd()), path.Base(to), 0o700); err != nil {
		return &os.PathError{Op: "make directory", Path: "/" + to, Err: err}
	}
	d.dirs = append(d.dirs, dirTime{to, d.c.when(&e.Stat)})
	return d.c.dress(e, dir, path.Base(to))
}

// open opens a directory of an upper one; there are no links on the way, or it is none that a copy has made.
func (d *direct) open(upper *os.File, name string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: disk.Beneath | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(upper.Fd()), name, &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// send gives the batch to a worker. The first one starts them.
func (d *direct) send() error {
	if d.queue == nil {
		d.queue = make(chan *batch, 4)
		d.work, d.ctx = errgroup.WithContext(d.c.ctx)
		for range min(runtime.GOMAXPROCS(0), 8) {
			d.work.Go(d.run)
		}
	}
	b := d.next
	d.next = nil
	select {
	case d.queue <- b:
		return nil
	case <-d.ctx.Done():
		_ = b.from.Close() // only read from
		return context.Cause(d.ctx)
	}
}

// run is one worker.
func (d *direct) run() error {
	buf := make([]byte, minClone)
	var first error
	for b := range d.queue {
		if first == nil {
			first = d.batch(b, buf)
		}
		_ = b.from.Close() // only read from
	}
	return first
}

// batch makes the files of one.
func (d *direct) batch(b *batch, buf []byte) error {
	dir, err := d.open(d.Upper, b.to)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	var earlier *os.File
	if d.Earlier != nil && !alone(b.to) {
		if earlier, err = d.open(d.Earlier, b.to); err == nil {
			defer earlier.Close() // only read from
		}
	}
	for _, e := range b.list {
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		e.Dir = b.from
		if err := d.file(e, earlier, dir, path.Join(b.to, e.Base), buf); err != nil {
			return err
		}
	}
	return nil
}

// file makes one file.
func (d *direct) file(e Entry, earlier, dir *os.File, to string, buf []byte) error {
	switch e.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		sum, known := "", false
		if d.Memory != nil {
			sum, known = d.Memory.Get(&e.Stat)
		}
		if known && earlier != nil && d.Has[to] == sum && d.take(e, earlier, dir, path.Base(to)) {
			d.made(to, sum)
			return nil
		}
		same, err := d.c.data(e, dir, path.Base(to), buf)
		if err != nil {
			return err
		}
		if known && same {
			d.made(to, sum)
		}
	case unix.S_IFLNK:
		return d.c.symlink(e, dir, path.Base(to))
	default:
		if err := unix.Mknodat(int(dir.Fd()), path.Base(to), e.Stat.Mode, int(e.Stat.Rdev)); err != nil {
			return &os.PathError{Op: "copy the device or pipe", Path: "/" + to, Err: err}
		}
	}
	return d.c.dress(e, dir, path.Base(to))
}

// take gives a file of the earlier copy another name, if it is what the file would become, and says whether it did. The contents are known to be the same.
func (d *direct) take(e Entry, earlier, dir *os.File, base string) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(int(earlier.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	owner, at := d.c.owner(&e.Stat), d.c.when(&e.Stat)
	if st.Mode != unix.S_IFREG|d.c.mode(&e.Stat) || st.Uid != owner.UID || st.Gid != owner.GID || st.Size != e.Stat.Size || st.Mtim != unix.NsecToTimespec(at.UnixNano()) {
		return false
	}
	return unix.Linkat(int(earlier.Fd()), base, int(dir.Fd()), base, 0) == nil // if not, it is copied
}

// made tells of a file.
func (d *direct) made(to, sum string) {
	if d.Made == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Made(to, sum)
}

// finish waits for the workers, makes the files with several names and gives the directories their times. name is where the walk began, err what it ended with.
func (d *direct) finish(name string, err error) error {
	if d.next != nil {
		if err == nil {
			err = d.send()
		} else {
			_ = d.next.from.Close() // only read from
		}
	}
	if d.queue != nil {
		close(d.queue)
		if failed := d.work.Wait(); failed != nil {
			err = failed // the walk ended because of it
		}
	}
	for _, l := range d.links {
		if err == nil {
			err = d.link(name, l)
		}
	}
	for i := len(d.dirs) - 1; i >= 0 && err == nil; i-- {
		var dir *os.File
		if dir, err = d.open(d.Upper, path.Dir(d.dirs[i].path)); err == nil {
			err = errors.Join(touch(dir, path.Base(d.dirs[i].path), d.dirs[i].at), dir.Close())
		}
	}
	return err
}

// link makes one name of a file with several.
func (d *direct) link(name string, l linked) (err error) {
	if l.e.Dir, err = OpenDir(d.c.src.Root, path.Dir(path.Join(Rel(name), l.e.Rel))); err != nil {
		return err
	}
	defer l.e.Dir.Close() // only read from
	dir, err := d.open(d.Upper, path.Dir(l.to))
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	if done, err := d.c.link(l.e, d.Upper, dir, path.Base(l.to), l.to); done || err != nil {
		return err
	}
	if _, err := d.c.data(l.e, dir, path.Base(l.to), d.c.buf); err != nil {
		return err
	}
	return d.c.dress(l.e, dir, path.Base(l.to))
}
