package netns

// Who is on which network, for the switch's name servers, which are asked often: the files are read again when their directory has changed, not for each question.

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// View is what the files say at the moment of each question. Every change of them makes, renames or removes a file, which the times of its directory show; whether a container is alive
// is asked for those that an answer is about.
type View struct {
	store *Store

	mu       sync.Mutex
	networks reading[[]*Network]
	books    map[string]reading[*Book] // by network's id
}

// reading is what was read from a directory.
type reading[T any] struct {
	what  T
	dir   stamp // before
	began time.Time
	final bool // the next change of the directory shows in its stamp
}

// holds says whether the reading is good for a question that came at a time and found the directory so: nothing has changed, or somebody has read since it came.
func (r reading[T]) holds(dir stamp, asked time.Time) bool {
	return r.final && r.dir == dir || r.began.After(asked)
}

// stamp is a directory and its last change.
type stamp struct {
	dev, ino     uint64
	mtime, ctime unix.Timespec
}

func stampOf(dir string) (s stamp, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return s, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return stamp{st.Dev, st.Ino, st.Mtim, st.Ctim}, nil
}

// The kernel's times are those of its last tick (10 ms at most), and some file systems keep whole seconds: a change so soon after another one does not show.
const (
	tick   = 20 * time.Millisecond
	coarse = 2 * time.Second
)

// final says whether whatever changes from now on shows.
func (s stamp) final(now time.Time) bool {
	grain := tick
	if s.ctime.Nsec == 0 {
		grain = coarse
	}
	age := now.Sub(time.Unix(s.ctime.Unix()))
	return age > grain
}

// NewView looks at a store.
func NewView(s *Store) *View { return &View{store: s, books: map[string]reading[*Book]{}} }

// Book are the containers that have addresses of a network, which is not over another one.
func (v *View) Book(n *Network) (*Book, error) {
	asked := time.Now()
	dir, err := stampOf(v.store.addressDir(n.ID))
	if errors.Is(err, os.ErrNotExist) {
		return &Book{}, nil // nobody was there yet
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the containers of network %s: %w", n.Name, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.books[n.ID]
	if r.holds(dir, asked) {
		return r.what, nil
	}
	r = reading[*Book]{dir: dir, began: time.Now()}
	r.final = dir.final(r.began)
	all, err := v.store.written(n)
	if err != nil {
		return nil, err
	}
	r.what = NewBook(all)
	v.books[n.ID] = r
	return r.what, nil
}

// NetworksOf are the networks with addresses of their own that a container has a place on. One that cannot be read is left out.
func (v *View) NetworksOf(container string) (on []*Network, err error) {
	all, err := v.list()
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		if n.OverBridge() {
			continue // its addresses are its parent's
		}
		b, err := v.Book(n)
		if err != nil {
			return nil, err
		}
		if b.byContainer[container] != nil {
			on = append(on, n)
		}
	}
	return on, nil
}

func (v *View) list() ([]*Network, error) {
	asked := time.Now()
	dir, err := stampOf(v.store.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list networks: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.networks.holds(dir, asked) {
		return v.networks.what, nil
	}
	r := reading[[]*Network]{dir: dir, began: time.Now()}
	all, err := v.store.List()
	r.what, r.final = all, dir.final(r.began) && err == nil
	v.networks = r
	for id := range v.books {
		if !slices.ContainsFunc(all, func(n *Network) bool { return n.ID == id }) {
			delete(v.books, id)
		}
	}
	return all, nil
}

// Book is who has addresses of a network. Nobody changes it.
type Book struct {
	byName      map[string][]*Endpoint // in lower case
	byAddress   map[netip.Addr][]*Endpoint
	byContainer map[string]*Endpoint
}

// NewBook makes one.
func NewBook(all []*Endpoint) *Book {
	b := &Book{map[string][]*Endpoint{}, map[netip.Addr][]*Endpoint{}, map[string]*Endpoint{}}
	for _, e := range all {
		for _, name := range e.Names() {
			name = strings.ToLower(name)
			if !slices.Contains(b.byName[name], e) {
				b.byName[name] = append(b.byName[name], e)
			}
		}
		for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
			if a.IsValid() {
				b.byAddress[a] = append(b.byAddress[a], e)
			}
		}
		b.byContainer[e.Container] = e
	}
	return b
}

// Named are the living containers with a name, which is written in lower case.
func (b *Book) Named(name string) []*Endpoint { return living(b.byName[name]) }

// At is the living container that has an address, nil when there is none.
func (b *Book) At(a netip.Addr) *Endpoint {
	if all := living(b.byAddress[a]); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Of is a container's place, nil when it has none or is not alive.
func (b *Book) Of(container string) *Endpoint {
	if e := b.byContainer[container]; e != nil && len(living([]*Endpoint{e})) > 0 {
		return e
	}
	return nil
}

func living(all []*Endpoint) (alive []*Endpoint) {
	for _, e := range all {
		if lives, err := disk.Lives(e.Alive); err != nil || lives {
			alive = append(alive, e)
		}
	}
	return alive
}

// written are the containers that have addresses of a network, those that died without a word too.
func (s *Store) written(n *Network) ([]*Endpoint, error) {
	dir := s.addressDir(bookID(n))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the containers of network %s: %w", n.Name, err)
	}
	var all []*Endpoint
	for _, f := range entries {
		if !strings.HasSuffix(f.Name(), suffix) || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		e, err := s.load1(filepath.Join(dir, f.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // detached meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}
