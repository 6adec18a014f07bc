package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

// crowd is a store with a network, and containers on it.
type crowd struct {
	testing.TB
	store *Store
	n     *Network
	alive map[string]*disk.Lock
}

func newCrowd(t testing.TB, members int) *crowd {
	t.Helper()
	c := &crowd{TB: t, store: Open(t.TempDir(), t.TempDir()), alive: map[string]*disk.Lock{}}
	c.store.hosts = func() Routes { return nil }
	var err error
	if c.n, err = c.store.Create(Network{Name: "back", Subnets: []Subnet{{Prefix: prefix("10.50.0.0/16")}}}); err != nil {
		t.Fatal(err)
	}
	for i := range members {
		c.come(c.n, fmt.Sprintf("c%d", i))
	}
	return c
}

func id(name string) string {
	return (strings.Repeat("0", 16-len(name)) + name + strings.Repeat("0", 48))
}

func (c *crowd) come(n *Network, name string, aliases ...string) *Endpoint {
	c.Helper()
	file := filepath.Join(c.store.run, "alive-"+name)
	if c.alive[name] == nil {
		if err := os.MkdirAll(c.store.run, 0o700); err != nil {
			c.Fatal(err)
		}
		lock, err := disk.TryLock(file, disk.Exclusive)
		if err != nil {
			c.Fatal(err)
		}
		c.alive[name] = lock
	}
	e, err := c.store.Attach(n, Endpoint{Container: id(name), Name: name, Aliases: aliases, Alive: file})
	if err != nil {
		c.Fatal(err)
	}
	return e
}

func (c *crowd) die(name string) {
	c.Helper()
	if err := c.alive[name].Unlock(); err != nil {
		c.Fatal(err)
	}
	delete(c.alive, name)
}

// A view is right at once, whatever has changed a moment ago, and however long it had been as it was.
func TestViewIsRightAtOnce(t *testing.T) {
	c := newCrowd(t, 3)
	v := NewView(c.store)
	book := func(n *Network) *Book {
		t.Helper()
		b, err := v.Book(n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	names := func(word string) (all []string) {
		t.Helper()
		for _, e := range book(c.n).Named(word) {
			all = append(all, e.Name)
		}
		return all
	}
	want := func(word string, want ...string) {
		t.Helper()
		if got := names(word); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("%s: %v, want %v", word, got, want)
		}
	}
	rest := func() { // long enough for what was read to be kept
		t.Helper()
		for until := time.Now().Add(10 * time.Second); !v.books[c.n.ID].final; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatal("nothing is kept")
			}
			names("c1")
		}
	}
	want("c1", "c1")
	for round := range 200 {
		if round%20 == 0 {
			rest()
		}
		e := c.come(c.n, "web", "service", "Service")
		want("web", "web")
		want("service", "web")
		if got := book(c.n).At(e.IPv4); got == nil || got.Name != "web" {
			t.Fatalf("at %s is %v", e.IPv4, got)
		}
		if err := c.store.Update(c.n, id("web"), func(e *Endpoint) { e.Name = "renamed" }); err != nil {
			t.Fatal(err)
		}
		want("web")
		want("renamed", "renamed")
		if err := c.store.Detach(c.n, id("web")); err != nil {
			t.Fatal(err)
		}
		want("renamed")
		if got := book(c.n).At(e.IPv4); got != nil {
			t.Fatalf("at %s is still %v", e.IPv4, got)
		}
	}
	// One that dies without a word changes no file.
	rest()
	c.die("c2")
	want("c2")
	if book(c.n).Of(id("c2")) != nil || book(c.n).Of(id("c1")) == nil {
		t.Error("the dead one is there, or the living one is not")
	}
}

// Networks that a container comes to and leaves are its own at once, and those that are removed are forgotten.
func TestViewOfNetworks(t *testing.T) {
	c := newCrowd(t, 1)
	v := NewView(c.store)
	networks := func() string {
		t.Helper()
		all, err := v.NetworksOf(id("c0"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range all {
			names = append(names, n.Name)
		}
		return strings.Join(names, " ")
	}
	for range 50 {
		if got := networks(); got != "back" {
			t.Fatalf("%q, want back", got)
		}
		other, err := c.store.Create(Network{Name: "other", Subnets: []Subnet{{Prefix: prefix("10.51.0.0/24")}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := networks(); got != "back" {
			t.Fatalf("%q, want back", got)
		}
		c.come(other, "c0")
		if got := networks(); got != "back other" {
			t.Fatalf("%q, want back and other", got)
		}
		if err := c.store.Detach(other, id("c0")); err != nil {
			t.Fatal(err)
		}
		if got := networks(); got != "back" {
			t.Fatalf("%q, want back", got)
		}
		if _, err := c.store.Remove("other"); err != nil {
			t.Fatal(err)
		}
	}
	if networks(); len(v.books) > 3 { // back, bridge and perhaps host and none
		t.Errorf("%d networks are remembered", len(v.books))
	}
	// A damaged network is its own containers' trouble.
	if err := os.WriteFile(c.store.file("odd"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := networks(); got != "back" {
		t.Errorf("%q beside a damaged network, want back", got)
	}
	_ = os.RemoveAll(c.store.addressDir(c.n.ID))
	if b, err := v.Book(c.n); err != nil || b.At(netip.MustParseAddr("10.50.0.2")) != nil {
		t.Errorf("a network without a directory: %v", err)
	}
	if _, err := os.Stat(c.store.addressDir(c.n.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Error("looking made it")
	}
}

func TestStampsThatHideAChange(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		age   time.Duration
		final bool
	}{
		{"just now", 0, false},
		{"a tick ago", 10 * time.Millisecond, false},
		{"a while ago", 30 * time.Millisecond, true},
		{"whole seconds, just now", time.Second, false},
		{"whole seconds, long ago", 3 * time.Second, true},
		{"in the future", -time.Hour - time.Millisecond, false},
	} {
		var s stamp
		at := now.Add(-c.age)
		s.ctime.Sec, s.ctime.Nsec = at.Unix(), int64(at.Nanosecond())
		if s.final(now) != c.final {
			t.Errorf("%s: final %v", c.name, !c.final)
		}
	}
}

// BenchmarkQuestions is what a look into a book of so many containers costs.
func BenchmarkQuestions(b *testing.B) {
	for _, members := range []int{5, 300} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			c := newCrowd(b, members)
			v := NewView(c.store)
			time.Sleep(2 * tick) // until what is read is kept
			b.ResetTimer()
			for b.Loop() {
				book, err := v.Book(c.n)
				if err != nil || len(book.Named("c1")) != 1 {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(members, " without a view"), func(b *testing.B) {
			c := newCrowd(b, members)
			for b.Loop() {
				if all, err := c.store.Endpoints(c.n); err != nil || len(all) != members {
					b.Fatal(err)
				}
			}
		})
	}
}
