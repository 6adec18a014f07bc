package files

// This file chooses files: from a path, a pattern and lists of what to take and leave, to one entry after the other. Copying and
// hashing choose with the same code, so that a cache key covers exactly what a copy takes.

import (
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// Source is a tree that files are taken from.
type Source struct {
	Root *os.File
	// Ignore are patterns of a .dockerignore file: what they match is not there.
	Ignore []string
	// Flat gives everything this owner instead of its own (a build context's files belong to whoever has them).
	Flat *Owner
	// Without is the device and inode of a directory that is not part of the tree, with all that is below it; zero is none.
	Without [2]uint64
}

// Pick is what is taken from a source.
type Pick struct {
	Path             string
	Wildcard         bool // Path is a pattern
	Follow           bool // a link at the end of Path is followed
	Include, Exclude []string
}

// Entry is one chosen file. Dir and Base are how to reach it; Rel is its path below the chosen one, "" for that itself.
type Entry struct {
	Dir  *os.File
	Base string
	Rel  string
	Stat unix.Stat_t
}

// chosen is a path that a Pick takes, links followed, and the last part of the name that it was chosen by: a copy is called that.
type chosen struct{ path, base string }

// paths resolves a Pick to paths beneath the source's root: what the pattern matches, links at the end followed when asked.
func (s Source) paths(p Pick) ([]chosen, error) {
	list := []string{p.Path}
	if p.Wildcard && wildcard(p.Path) {
		var err error
		if list, err = Glob(s.Root, p.Path); err != nil {
			return nil, err
		}
	}
	ignore, err := newFilter(s.Ignore)
	if err != nil {
		return nil, err
	}
	var kept []chosen
	for _, name := range list {
		base := path.Base(Rel(name))
		if p.Follow {
			if name, err = follow(s.Root, name); err != nil {
				return nil, err
			}
		}
		hidden, err := ignore.hides(name)
		if err != nil {
			return nil, err
		}
		if hidden && (p.Wildcard && wildcard(p.Path)) {
			continue
		}
		if hidden && !ignore.mayHold() {
			return nil, &os.PathError{Op: "find", Path: "/" + Rel(name), Err: unix.ENOENT}
		}
		kept = append(kept, chosen{name, base})
	}
	return kept, nil
}

// follow resolves links at the end of a path beneath root.
func follow(root *os.File, name string) (string, error) {
	for range 40 {
		if Rel(name) == "." {
			return name, nil
		}
		st, err := Lstat(root, name)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return name, err
		}
		dir, base, err := parent(root, name)
		if err != nil {
			return "", err
		}
		target, err := readlinkAt(dir, base)
		_ = dir.Close()
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(name), target)
		}
		name = target
	}
	return "", &os.PathError{Op: "follow", Path: name, Err: unix.ELOOP}
}

func readlinkAt(dir *os.File, base string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(int(dir.Fd()), base, buf)
	if err != nil {
		return "", &os.PathError{Op: "read link", Path: base, Err: err}
	}
	return string(buf[:n]), nil
}

// filter is a list of patterns with what is known of a directory's parents.
type filter struct {
	pm   *patternmatcher.PatternMatcher
	info patternmatcher.MatchInfo
}

func newFilter(patterns []string) (*filter, error) {
	if len(patterns) == 0 {
		return nil, nil //nolint:nilnil // no filter at all, which every method of a nil one knows
	}
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("cannot use the patterns %q: %w", patterns, err)
	}
	return &filter{pm: pm}, nil
}

// match says whether a path matches, given the filter of its parent, and returns the filter for what is below.
func (f *filter) match(rel string) (bool, *filter, error) {
	if f == nil {
		return false, nil, nil
	}
	ok, info, err := f.pm.MatchesUsingParentResults(rel, f.info)
	return ok, &filter{f.pm, info}, err
}

// mayHold says that something below a matching directory may not match.
func (f *filter) mayHold() bool { return f != nil && f.pm.Exclusions() }

// hides is match from the root down.
func (f *filter) hides(name string) (hidden bool, err error) {
	hidden, _, err = f.enter(Rel(name))
	return hidden, err
}

func (f *filter) enter(rel string) (ok bool, below *filter, err error) {
	below = f
	if rel == "." {
		return false, below, nil
	}
	for i := 0; i <= len(rel); i++ {
		if i == len(rel) || rel[i] == '/' {
			if ok, below, err = below.match(rel[:i]); err != nil {
				return false, nil, err
			}
		}
	}
	return ok, below, nil
}

// walker is one walk.
type walker struct {
	emit    func(Entry) error
	include bool // only what an include pattern matches
	without [2]uint64
}

// position is where a walk is: a name with the filters of its parent.
type position struct {
	dir              *os.File
	base, full, rel  string // full is the path from the source's root, rel the one from the chosen path
	ignore, inc, exc *filter
	up               *pending
}

// pending is a directory that is emitted only when something in it is.
type pending struct {
	up   *pending
	e    Entry
	done bool
}

// Walk calls emit for what a Pick takes below one of its paths: parents first, names sorted. Links are not followed.
func (s Source) Walk(name string, p Pick, emit func(Entry) error) error {
	at := position{base: ".", dir: s.Root}
	var err error
	if at.ignore, err = newFilter(s.Ignore); err != nil {
		return err
	}
	if at.inc, err = newFilter(p.Include); err != nil {
		return err
	}
	if at.exc, err = newFilter(p.Exclude); err != nil {
		return err
	}
	w := &walker{emit: emit, include: len(p.Include) > 0, without: s.Without}
	hidden := false
	if rel := Rel(name); rel != "." {
		if hidden, at.ignore, err = at.ignore.enter(rel); err != nil {
			return err
		}
		if at.dir, err = OpenDir(s.Root, path.Dir(rel)); err != nil {
			return err
		}
		defer at.dir.Close() // only read from
		at.base, at.full = path.Base(rel), rel
	}
	st, err := statAt(at.dir, at.base)
	if err != nil {
		return err
	}
	e := Entry{Dir: at.dir, Base: at.base, Stat: st}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.directory(at, e, !hidden && !w.include)
	}
	// A chosen file is matched by its name.
	taken, err := at.choose(at.base)
	if err != nil || hidden || !taken {
		return err
	}
	return emit(e)
}

// choose enters a path into the filters of what to take and leave, and says whether it is to be taken.
func (at *position) choose(rel string) (bool, error) {
	included, inc, err := at.inc.match(rel)
	if err != nil {
		return false, err
	}
	excluded, exc, err := at.exc.match(rel)
	if err != nil {
		return false, err
	}
	taken := (at.inc == nil || included) && !excluded
	at.inc, at.exc = inc, exc
	return taken, nil
}

// directory emits a directory, at once when it is wanted itself and else with the first thing in it, and walks through it.
func (w *walker) directory(at position, e Entry, wanted bool) error {
	at.up = &pending{up: at.up, e: e}
	if wanted {
		if err := at.up.flush(w.emit); err != nil {
			return err
		}
	}
	dir, err := openAt(at.dir, at.base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close() // only read from
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		below := at
		below.dir, below.base = dir, name
		below.full, below.rel = path.Join(at.full, name), path.Join(at.rel, name)
		if err := w.visit(below); err != nil {
			return err
		}
	}
	return nil
}

// visit handles one name in a directory.
func (w *walker) visit(at position) error {
	hidden, ignore, err := at.ignore.match(at.full)
	if err != nil {
		return err
	}
	taken, err := at.choose(at.rel)
	if err != nil {
		return err
	}
	at.ignore = ignore
	st, err := statAt(at.dir, at.base)
	if err != nil {
		return err
	}
	e := Entry{Dir: at.dir, Base: at.base, Rel: at.rel, Stat: st}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if hidden && !ignore.mayHold() || w.without == [2]uint64{st.Dev, st.Ino} {
			return nil
		}
		return w.directory(at, e, taken && !hidden)
	}
	if hidden || !taken {
		return nil
	}
	if err := at.up.flush(w.emit); err != nil {
		return err
	}
	return w.emit(e)
}

// flush emits the directories that were held back, from the top down.
func (p *pending) flush(emit func(Entry) error) error {
	if p == nil || p.done {
		return nil
	}
	if err := p.up.flush(emit); err != nil {
		return err
	}
	p.done = true
	return emit(p.e)
}
