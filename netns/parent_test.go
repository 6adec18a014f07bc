package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/storage/disk"
)

// hosted gives a store a host with the interfaces lo and eth0 and, when there is a switch, one with moved0.
func hosted(t *testing.T, s *Store, withSwitch bool) {
	t.Helper()
	s.root = false
	s.links = func(file string) []string {
		if file == "/proc/77/task/78/net/dev" {
			return []string{"lo", "up0", "moved0"}
		}
		return []string{"lo", "eth0"}
	}
	if !withSwitch {
		return
	}
	file := SpaceFile(filepath.Dir(s.run))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := disk.TryLock(filepath.Join(filepath.Dir(file), "alive"), disk.Exclusive)
	if err == nil {
		err = os.WriteFile(file, []byte(`{"pid":77,"tid":78}`), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Unlock() })
}

func TestParents(t *testing.T) {
	over := func(options string) Network {
		n := Network{Name: "n", Driver: DriverMacvlan, Options: map[string]string{}}
		for _, o := range strings.Fields(options) {
			k, v, _ := strings.Cut(o, "=")
			n.Options[k] = v
		}
		return n
	}
	with := func(n Network, change func(*Network)) Network { change(&n); return n }
	tests := []struct {
		name     string
		n        Network
		root, sw bool
		want     string // part of the error; "" none
		hint     string
	}{
		{"no parent", over(""), false, false, "parent=NAME", "-o parent=NETWORK"},
		{"a bridge network", over("parent=mine"), false, false, "", ""},
		{"the default network", over("parent=bridge mtu=1400"), false, false, "", ""},
		{"private", over("parent=mine macvlan_mode=private"), false, false, "", ""},
		{"passthru of a network", over("parent=mine macvlan_mode=passthru"), false, false, "passthru", ""},
		{"no such mode", over("parent=mine macvlan_mode=fast"), false, false, "vepa", ""},
		{"a subnet of its own", with(over("parent=mine"), func(n *Network) { n.Subnets = []Subnet{{Prefix: prefix("10.8.0.0/24")}} }), false, false, "--subnet", ""},
		{"internal", with(over("parent=mine"), func(n *Network) { n.Internal = true }), false, false, "--internal", ""},
		{"a network of the host", over("parent=host"), false, false, "no bridge network", ""},
		{"nothing of that name", over("parent=nosuch"), false, false, "no bridge network nosuch", ""},
		{"the host's", over("parent=eth0"), false, false, "only root", "ip link set eth0 netns ...`"},
		{"the host's, with a switch", over("parent=eth0"), false, true, "only root", "ip link set eth0 netns 78`"},
		{"the host's, as root", over("parent=eth0"), true, false, "", ""},
		{"the host's for itself, as root", over("parent=eth0 macvlan_mode=passthru"), true, true, "passthru", "ip link set eth0 netns 78`"},
		{"the switch's for itself", over("parent=moved0 macvlan_mode=passthru"), false, true, "", ""},
		{"the switch's", over("parent=moved0"), false, true, "", ""},
		{"a dead switch's", over("parent=moved0"), false, false, "no interface", ""},
		{"loopback", over("parent=lo"), true, true, "loopback", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := fresh(t)
			must(s.Create(Network{Name: "mine", Subnets: []Subnet{{Prefix: prefix("10.9.0.0/24")}}}))
			hosted(t, s, tt.sw)
			s.root = tt.root
			n, err := s.Create(tt.n)
			if tt.want != "" {
				var hint interface{ HintText() string }
				if err == nil || !strings.Contains(err.Error(), tt.want) || tt.hint != "" && (!errors.As(err, &hint) || !strings.Contains(hint.HintText(), tt.hint)) {
					t.Fatalf("got %v, want %q and the hint %q", err, tt.want, tt.hint)
				}
				if _, err := s.Find("n"); !errors.Is(err, ErrNotFound) {
					t.Fatal("something was left", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if read := must(s.Get("n")); fmt.Sprint(read) != fmt.Sprint(n) {
				t.Fatalf("wrote %v, read %v", n, read)
			}
		})
	}
}

// Containers on a network over another one have addresses of that one: the same one is never given twice, and neither network goes while they are there.
func TestOverBridge(t *testing.T) {
	s := fresh(t)
	mine := must(s.Create(Network{Name: "mine", Subnets: []Subnet{{Prefix: prefix("10.9.0.0/29")}}}))
	n := must(s.Create(Network{Name: "n", Driver: DriverMacvlan, Options: map[string]string{"parent": mine.ID[:10]}}))
	if !n.OverBridge() || n.Parent() != "mine" || len(n.Subnets) != 1 || n.Subnets[0].Prefix != prefix("10.9.0.0/29") {
		t.Fatal(n)
	}
	a, _ := container(t, "a")
	b, bDies := container(t, "b")
	c, _ := container(t, "c")
	ea, eb := must(s.Attach(mine, a)), must(s.Attach(n, b))
	if ea.IPv4 != addr("10.9.0.2") || eb.IPv4 != addr("10.9.0.3") || eb.Network != mine.ID || eb.Via != n.ID || ea.Via != "" {
		t.Fatal(ea, eb)
	}
	c.IPv4 = addr("10.9.0.3")
	if _, err := s.Attach(mine, c); !errors.Is(err, ErrAddressInUse) {
		t.Fatal(err)
	}
	c.IPv4 = addr("10.9.0.2")
	if _, err := s.Attach(n, c); !errors.Is(err, ErrAddressInUse) {
		t.Fatal(err)
	}
	if on := must(s.Endpoints(n)); len(on) != 1 || on[0].Name != "b" {
		t.Fatal(on)
	}
	if on := must(s.Endpoints(mine)); len(on) != 2 {
		t.Fatal(on)
	}
	for _, name := range []string{"n", "mine"} {
		if _, err := s.Remove(name); !errors.Is(err, ErrInUse) {
			t.Fatal(name, err)
		}
	}
	// A place on one of the two is none on the other.
	if err := s.Detach(n, a.Container); err != nil || must(s.Endpoint(mine, a.Container)) == nil {
		t.Fatal(err)
	}
	if err := s.Detach(n, b.Container); err != nil || len(must(s.Endpoints(n))) != 0 {
		t.Fatal(err)
	}
	must(s.Attach(n, b))
	bDies()
	if _, err := s.Remove("mine"); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "networks n are over it") {
		t.Fatal(err)
	}
	if _, err := s.Remove("n"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attach(n, c); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	// Another network of the parent's name is not the parent.
	gone := must(s.Create(Network{Name: "n2", Driver: DriverMacvlan, Options: map[string]string{"parent": "mine"}}))
	if err := os.Remove(s.file("mine")); err != nil {
		t.Fatal(err)
	}
	must(s.Create(Network{Name: "mine", Subnets: []Subnet{{Prefix: prefix("10.10.0.0/29")}}}))
	c.IPv4 = addr("10.9.0.5")
	if _, err := s.Attach(gone, c); !errors.Is(err, ErrNotFound) || len(must(s.Find("n2")).Subnets) != 0 {
		t.Fatal(err)
	}
	if _, err := s.Remove("n2"); err != nil {
		t.Fatal(err)
	}
}
