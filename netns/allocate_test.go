package netns

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

// container is a container that lives until die is called.
func container(t testing.TB, name string) (e Endpoint, die func()) {
	t.Helper()
	alive := filepath.Join(t.TempDir(), "alive")
	lock, err := disk.TryLock(alive, disk.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	once := sync.OnceFunc(func() { _ = lock.Unlock() })
	t.Cleanup(once)
	return Endpoint{Container: newID(), Name: name, Alive: alive}, once
}

func network(t *testing.T, s *Store, subnets ...Subnet) *Network {
	t.Helper()
	n, err := s.Create(Network{Name: "n", Subnets: subnets})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestAttach(t *testing.T) {
	s := fresh(t)
	n := network(t, s, Subnet{Prefix: prefix("10.7.0.0/29"), Reserved: map[string]netip.Addr{"r": addr("10.7.0.3")}}, Subnet{Prefix: prefix("fd00:7::/64")})
	a, _ := container(t, "a")
	b, bDies := container(t, "b")
	c, _ := container(t, "c")
	ea := must(s.Attach(n, a))
	eb := must(s.Attach(n, b))
	if ea.IPv4 != addr("10.7.0.2") || ea.IPv6 != addr("fd00:7::2") || ea.MAC != "02:42:0a:07:00:02" || eb.IPv4 != addr("10.7.0.4") {
		t.Fatal(ea, eb)
	}
	c.IPv4 = addr("10.7.0.4")
	if _, err := s.Attach(n, c); !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), "b's") {
		t.Fatal(err)
	}
	if _, err := s.Remove("n"); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "by a, b") {
		t.Fatal(err)
	}
	bDies()
	if users := must(s.Endpoints(n)); len(users) != 1 || users[0].Name != "a" {
		t.Fatal(users)
	}
	ec := must(s.Attach(n, c))
	if ec.IPv4 != c.IPv4 || ec.IPv6 == ea.IPv6 {
		t.Fatal(ec)
	}
	// The dead one's file names the address that is c's now: its return must not free it.
	lock := must(disk.TryLock(b.Alive, disk.Exclusive))
	defer lock.Unlock()
	if again := must(s.Attach(n, b)); again.IPv4 == ec.IPv4 {
		t.Fatal(again)
	}
	d, _ := container(t, "d")
	d.IPv4 = ec.IPv4
	if _, err := s.Attach(n, d); !errors.Is(err, ErrAddressInUse) {
		t.Fatal(err)
	}
	for _, e := range []*Endpoint{ea, ec, &b} {
		if err := s.Detach(n, e.Container); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Detach(n, a.Container); err != nil {
		t.Fatal("a second time:", err)
	}
	must(s.Remove("n"))
	if _, err := s.Attach(n, a); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.addressDir(n.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestAttachRefused(t *testing.T) {
	s := fresh(t)
	n := network(t, s, Subnet{Prefix: prefix("10.7.0.0/30")})
	for _, tt := range []struct {
		name string
		set  func(*Endpoint)
		want error
		text string
	}{
		{"outside", func(e *Endpoint) { e.IPv4 = addr("10.8.0.2") }, ErrOutside, "10.7.0.0/30"},
		{"the network's", func(e *Endpoint) { e.IPv4 = addr("10.7.0.0") }, ErrOutside, "not for hosts"},
		{"broadcast", func(e *Endpoint) { e.IPv4 = addr("10.7.0.3") }, ErrOutside, "not for hosts"},
		{"the gateway's", func(e *Endpoint) { e.IPv4 = addr("10.7.0.1") }, ErrAddressInUse, "gateway"},
		{"no IPv6", func(e *Endpoint) { e.IPv6 = addr("fd00::2") }, ErrOutside, "fd00::2"},
		{"family", func(e *Endpoint) { e.IPv6 = addr("10.7.0.2") }, ErrOutside, "family"},
		{"MAC", func(e *Endpoint) { e.MAC = "01:00:00:00:00:01" }, nil, "MAC"},
		{"no lock", func(e *Endpoint) { e.Alive = "" }, nil, "lock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := container(t, "x")
			tt.set(&e)
			_, err := s.Attach(n, e)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Fatal(err)
			}
		})
	}
	a, _ := container(t, "a")
	must(s.Attach(n, a))
	b, _ := container(t, "b")
	if _, err := s.Attach(n, b); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if again := must(s.Attach(n, a)); again.IPv4 != addr("10.7.0.2") {
		t.Fatal("a container's own address was not free for it", again)
	}
}

func TestRange(t *testing.T) {
	s := fresh(t)
	n := network(t, s, Subnet{Prefix: prefix("10.7.0.0/24"), Range: prefix("10.7.0.128/30")})
	if n.Subnets[0].Gateway != addr("10.7.0.129") {
		t.Fatal(n)
	}
	var got []string
	for range 3 {
		e, _ := container(t, "x")
		got = append(got, must(s.Attach(n, e)).IPv4.String())
	}
	if fmt.Sprint(got) != "[10.7.0.128 10.7.0.130 10.7.0.131]" {
		t.Fatal(got)
	}
	e, _ := container(t, "x")
	if _, err := s.Attach(n, e); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	e.IPv4 = addr("10.7.0.7") // asked for by number, it need not be in the range
	must(s.Attach(n, e))
}

// 32 at once, and half of them leave: nobody has another one's address.
func TestAttachAtOnce(t *testing.T) {
	s := fresh(t)
	n := network(t, s)
	var wg sync.WaitGroup
	for i := range 32 {
		e, die := container(t, fmt.Sprint("c", i))
		wg.Go(func() {
			for range 4 {
				if _, err := s.Attach(n, e); err != nil {
					t.Error(err)
				}
			}
			switch i % 4 {
			case 0:
				die()
			case 1:
				if err := s.Detach(n, e.Container); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[netip.Addr]string{}
	users := must(s.Endpoints(n))
	for _, e := range users {
		if other := seen[e.IPv4]; other != "" {
			t.Error(e.IPv4, other, e.Name)
		}
		seen[e.IPv4] = e.Name
		if h := s.holder(n.ID, e.IPv4); h == nil || h.Container != e.Container {
			t.Error("the address is not held by", e.Name)
		}
	}
	if len(users) != 16 {
		t.Error(len(users))
	}
}

// A process that dies between any two writes leaves nothing that keeps an address: here after the link, before the endpoint.
func TestHalfMade(t *testing.T) {
	s := fresh(t)
	n := network(t, s, Subnet{Prefix: prefix("10.7.0.0/30")})
	lock := must(s.lockAddresses(n))
	if err := errors.Join(s.claim(n.ID, addr("10.7.0.2"), newID()), os.WriteFile(filepath.Join(s.addressDir(n.ID), "next4"), []byte("10.7"), 0o600), lock.Unlock()); err != nil {
		t.Fatal(err)
	}
	e, _ := container(t, "x")
	if got := must(s.Attach(n, e)); got.IPv4 != addr("10.7.0.2") {
		t.Fatal(got)
	}
}

// Real processes killed with -9 while they attach and detach: the store stays usable and no address is lost.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("NETNS_TEST_VICTIM"); dir != "" {
		s := Open(filepath.Join(dir, "data"), filepath.Join(dir, "run"))
		n := must(s.Get("n"))
		alive := filepath.Join(dir, fmt.Sprint("alive", os.Getpid()))
		must(disk.TryLock(alive, disk.Exclusive))
		fmt.Println("ready")
		for e := (Endpoint{Container: newID(), Name: "victim", Alive: alive}); ; {
			must(s.Attach(n, e))
			if err := s.Detach(n, e.Container); err != nil {
				panic(err)
			}
		}
	}
	s := fresh(t)
	n := network(t, s, Subnet{Prefix: prefix("10.7.0.0/29")})
	dir := filepath.Dir(s.dir)
	for round := range 30 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), "NETNS_TEST_VICTIM="+filepath.Dir(dir))
		out := must(cmd.StdoutPipe())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		for i := range 1 + round%5 {
			e, _ := container(t, fmt.Sprint(i))
			must(s.Attach(n, e))
			if err := s.Detach(n, e.Container); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for i := range 5 { // all of its addresses are there
		e, _ := container(t, fmt.Sprint(i))
		must(s.Attach(n, e))
	}
	if len(must(s.Endpoints(n))) != 5 {
		t.Fatal("endpoints are missing")
	}
}

func BenchmarkAttach(b *testing.B) {
	dir := b.TempDir()
	s := Open(filepath.Join(dir, "data"), filepath.Join(dir, "run"))
	n := must(s.Get(""))
	for range 200 {
		e, _ := container(b, "x")
		must(s.Attach(n, e))
	}
	e, _ := container(b, "y")
	for b.Loop() {
		must(s.Attach(n, e))
		if err := s.Detach(n, e.Container); err != nil {
			b.Fatal(err)
		}
	}
}

// A container whose monitor was killed leaves a place, and perhaps a half-written file and links without an endpoint; a neighbour that has its address by now keeps it.
func TestForget(t *testing.T) {
	s := fresh(t)
	n := network(t, s)
	dead, die := container(t, "dead")
	place := must(s.Attach(n, dead))
	half := filepath.Join(s.addressDir(n.ID), ".tmp-"+short(dead.Container)+suffix+"-123")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	orphans := []string{s.link(n.ID, place.IPv4.Next()), s.macLink(n.ID, "02:00:00:00:00:09")}
	for _, link := range orphans {
		if err := os.Symlink(short(dead.Container), link); err != nil {
			t.Fatal(err)
		}
	}
	die()
	next, _ := container(t, "next")
	next.IPv4 = place.IPv4
	kept := must(s.Attach(n, next))
	if err := s.Forget(dead.Container); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{half: false, orphans[0]: false, orphans[1]: false, s.endpointFile(n.ID, dead.Container): false, s.endpointFile(n.ID, next.Container): true, s.link(n.ID, kept.IPv4): true} {
		if _, err := os.Lstat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Forget(dead.Container); err != nil {
		t.Error("a second time:", err)
	}
}

// A network can be removed right after a --rm container on it has ended: its monitor leaves the network a moment later.
func TestRemoveWaitsForTheDying(t *testing.T) {
	s := fresh(t)
	n := network(t, s)
	dying, die := container(t, "dying")
	must(s.Attach(n, dying))
	go func() {
		time.Sleep(50 * time.Millisecond)
		die()
	}()
	if _, err := s.Remove(n.Name); err != nil {
		t.Fatal(err)
	}
}

// An address that was asked for is nobody else's, whoever comes first: the other way round the one that would follow from an IP address gives way.
func TestMAC(t *testing.T) {
	s := fresh(t)
	n := network(t, s, Subnet{Prefix: prefix("10.7.0.0/29")})
	a, aDies := container(t, "a")
	b, _ := container(t, "b")
	c, _ := container(t, "c")
	a.MAC, a.IPv4 = "02:42:0A:07:00:02", addr("10.7.0.5") // what 10.7.0.2 would have
	ea := must(s.Attach(n, a))
	b.IPv4 = addr("10.7.0.2")
	eb := must(s.Attach(n, b))
	if ea.MAC != "02:42:0a:07:00:02" || eb.MAC == ea.MAC || !strings.HasPrefix(eb.MAC, "06:42:") {
		t.Fatal(ea, eb)
	}
	for mac, who := range map[string]string{"02:42:0a:07:00:02": "of container a", eb.MAC: "of container b", "02:42:0a:07:00:01": "the gateway's"} {
		c.MAC = mac
		if _, err := s.Attach(n, c); !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), who) {
			t.Errorf("%s: %v", mac, err)
		}
	}
	// It is free with the end of its container, told or not.
	if err := s.Detach(n, b.Container); err != nil {
		t.Fatal(err)
	}
	aDies()
	if eb = must(s.Attach(n, b)); eb.MAC != "02:42:0a:07:00:02" {
		t.Error(eb)
	}
	if err := s.Detach(n, a.Container); err != nil {
		t.Fatal(err)
	}
	d, _ := container(t, "d")
	d.MAC = "02:42:00:00:00:99"
	must(s.Attach(n, d))
	if err := s.Detach(n, d.Container); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.addressDir(n.ID), "m-*")); len(left) != 0 {
		t.Error(left)
	}
}

// Whoever has a macvlan network on an interface of the host's has its subnet too: nothing is hidden.
func TestMacvlanHidesNothing(t *testing.T) {
	s := fresh(t)
	hosted(t, s, true)
	s.hosts = func() Routes { return Routes{{prefix("10.61.0.0/24"), "moved0"}} }
	lan := []Subnet{{Prefix: prefix("10.61.0.0/24")}}
	for _, c := range []struct {
		n     Network
		warns bool
	}{
		{Network{Name: "over", Driver: DriverMacvlan, Options: map[string]string{optionParent: "moved0"}, Subnets: lan}, false},
		{Network{Name: "hiding", Subnets: lan}, true},
	} {
		n := must(s.Create(c.n))
		if w := n.Warning(); (w != "") != c.warns {
			t.Errorf("%s warns of %q", n.Name, w)
		}
		if _, err := s.Remove(n.Name); err != nil {
			t.Fatal(err)
		}
	}
}

// The default network gives way to a route that the host gets later, as soon as nobody is on it; one with subnets that were asked for stays.
func TestEvade(t *testing.T) {
	s := fresh(t)
	var routes Routes
	s.hosts = func() Routes { return routes }
	before := must(s.Get(Bridge))
	a, aDies := container(t, "a")
	must(s.Attach(before, a))
	routes = Routes{{prefix("10.144.0.0/13"), "tun0"}}
	if n := must(s.Get(Bridge)); !n.Alike(before) {
		t.Errorf("it changed under a container: %v", n.Subnets)
	} else if w := n.Warning(); !strings.Contains(w, "10.144.0.0/13 (interface tun0)") || !strings.Contains(w, "no container is on it") {
		t.Errorf("it warns of %q", w)
	}
	aDies()
	after := must(s.Get(Bridge))
	if _, met := routes.Overlaps(after.Subnets[0].Prefix); met || after.ID != before.ID || after.Warning() != "" {
		t.Errorf("%v %s", after.Subnets, after.Warning())
	}
	if again := must(s.Get(Bridge)); !again.Alike(after) {
		t.Errorf("it changed once more: %v", again.Subnets)
	}
	// Whoever had looked before comes too late, and looks again.
	b, _ := container(t, "b")
	if _, err := s.Attach(before, b); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	must(s.Attach(after, b))
	// Nowhere to go: it stays.
	routes = Routes{{prefix("10.0.0.0/8"), "a"}, {prefix("172.16.0.0/12"), "b"}, {prefix("192.168.0.0/16"), "c"}, {prefix("198.18.0.0/15"), "d"}}
	if n := must(s.Get(Bridge)); !n.Alike(after) {
		t.Errorf("%v", n.Subnets)
	}
	asked := fresh(t)
	asked.hosts = func() Routes { return routes }
	must(asked.Create(Network{Name: Bridge, Subnets: []Subnet{{Prefix: prefix("10.1.0.0/16")}}}))
	if n := must(asked.Get(Bridge)); n.Subnets[0].Prefix != prefix("10.1.0.0/16") {
		t.Errorf("%v", n.Subnets)
	}
}
