package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-containers/skiff/storage/disk"
)

// fresh is a store on a host with these routes.
func fresh(t *testing.T, routes ...string) *Store {
	t.Helper()
	dir := t.TempDir()
	s := Open(filepath.Join(dir, "data"), filepath.Join(dir, "run"))
	s.hosts = func() (all Routes) {
		for _, r := range routes {
			all = append(all, Route{netip.MustParsePrefix(r), "lan0"})
		}
		return all
	}
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestDefaultNetwork(t *testing.T) {
	s := fresh(t, "10.144.0.0/16", "10.145.128.0/20")
	all := must(s.List())
	if len(all) != 3 || all[0].Name != Bridge || all[1].Name != Host || all[2].Name != None || all[2].Driver != DriverNull {
		t.Fatal(all)
	}
	if n := must(s.Find(Default)); len(n.Subnets) != 0 {
		t.Fatal("looking at the default network gave it a subnet")
	}
	n := must(s.Get(""))
	if sub, ok := n.Subnet4(); !ok || sub.Prefix.String() != "10.146.0.0/16" || sub.Gateway.String() != "10.146.0.1" {
		t.Fatal(n)
	}
	s.hosts = func() Routes { return Routes{{prefix("10.147.0.0/16"), "tun0"}} }
	if again := must(s.Get(n.ID[:12])); again.Subnets[0].Prefix != n.Subnets[0].Prefix || again.ID != n.ID {
		t.Fatal("the default network's subnet changed", again)
	}
	for _, name := range []string{Bridge, Host, None} {
		if _, err := s.Remove(name); !errors.Is(err, ErrPredefined) {
			t.Fatal(name, err)
		}
	}
	if _, err := s.Create(Network{Name: Bridge}); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
}

func TestDefaultNetworkOfOnesOwn(t *testing.T) {
	s := fresh(t)
	must(s.Create(Network{Name: Bridge, IPv6: true, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}}}))
	n := must(s.Get(Bridge))
	six, ok := n.Subnet6()
	if !ok || n.Subnets[0].Prefix.String() != "10.1.0.0/24" || six.Prefix.Bits() != 64 || !six.Prefix.Addr().IsPrivate() {
		t.Fatal(n)
	}
}

func TestCreate(t *testing.T) {
	sub := func(prefix, gateway, in string) Subnet {
		s := Subnet{Prefix: netip.MustParsePrefix(prefix)}
		if gateway != "" {
			s.Gateway = netip.MustParseAddr(gateway)
		}
		if in != "" {
			s.Range = netip.MustParsePrefix(in)
		}
		return s
	}
	one := func(s Subnet) Network { return Network{Name: "n", Subnets: []Subnet{s}} }
	tests := []struct {
		name string
		n    Network
		want string // of the error; empty: none
	}{
		{"chosen", Network{Name: "n"}, ""},
		{"both families", Network{Name: "n", IPv6: true}, ""},
		{"IPv6 alone", Network{Name: "n", IPv6: true, NoIPv4: true}, ""},
		{"neither", Network{Name: "n", NoIPv4: true}, "neither IPv4 nor IPv6"},
		{"IPv4 subnet without IPv4", Network{Name: "n", NoIPv4: true, IPv6: true, Subnets: []Subnet{sub("10.7.0.0/24", "", "")}}, "turned off"},
		{"asked", one(sub("10.7.0.0/24", "10.7.0.254", "10.7.0.128/25")), ""},
		{"host bits", one(Subnet{Prefix: netip.PrefixFrom(netip.MustParseAddr("10.7.0.1"), 24)}), "10.7.0.0/24"},
		{"overlap", one(sub("10.9.1.0/25", "", "")), "overlaps: 10.9.1.0/25 is partly 10.9.0.0/16 of network other"},
		{"overlap of its own", Network{Name: "n", Subnets: []Subnet{sub("10.7.0.0/24", "", ""), sub("10.7.0.128/25", "", "")}}, "overlaps"},
		{"gateway outside", one(sub("10.7.0.0/24", "10.8.0.1", "")), "outside"},
		{"gateway is the network", one(sub("10.7.0.0/24", "10.7.0.0", "")), "outside"},
		{"gateway is broadcast", one(sub("10.7.0.0/24", "10.7.0.255", "")), "outside"},
		{"range outside", one(sub("10.7.0.0/24", "", "10.8.0.0/25")), "not in the subnet"},
		{"range larger", one(sub("10.7.0.0/24", "", "10.0.0.0/8")), "not in the subnet"},
		{"range of the other family", one(sub("10.7.0.0/24", "", "fd00::/80")), "not in the subnet"},
		{"too small", one(sub("10.7.0.0/31", "", "")), "no room"},
		{"multicast", one(sub("224.0.0.0/24", "", "")), "not of addresses"},
		{"loopback", one(sub("127.1.0.0/16", "", "")), "not of addresses"},
		{"reserved outside", one(Subnet{Prefix: netip.MustParsePrefix("10.7.0.0/24"), Reserved: map[string]netip.Addr{"router": netip.MustParseAddr("10.8.0.2")}}), "router=10.8.0.2"},
		{"name in use", Network{Name: "other"}, "exists"},
		{"bad name", Network{Name: "a/b"}, "invalid network name"},
		{"empty name", Network{}, "invalid network name"},
		{"a word of --network", Network{Name: "container"}, "meaning of its own"},
		{"predefined", Network{Name: Host}, "predefined"},
		{"driver", Network{Name: "n", Driver: "vlan9"}, "no driver"},
		{"driver of later", Network{Name: "n", Driver: "overlay"}, "not part of this version"},
		{"driver that needs none", Network{Name: "n", Driver: "pasta"}, "--network pasta"},
		{"host's driver", Network{Name: "n", Driver: "host"}, "predefined"},
		{"option", Network{Name: "n", Options: map[string]string{"colour": "red"}}, `no option "colour"`},
		{"option's value", Network{Name: "n", Options: map[string]string{"mtu": "12"}}, "MTU"},
		{"option", Network{Name: "n", Options: map[string]string{"mtu": "1400", optionICC: "false"}}, ""},
		{"macvlan of nothing", Network{Name: "n", Driver: DriverMacvlan}, "needs -o parent="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := fresh(t, "10.160.0.0/24", "10.160.2.0/23")
			must(s.Create(Network{Name: "other", Subnets: []Subnet{sub("10.9.0.0/16", "", "")}}))
			n, err := s.Create(tt.n)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				if all := must(s.List()); len(all) != 4 {
					t.Fatal("something was left", all)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			read := must(s.Get(n.ID[:12]))
			if fmt.Sprint(read) != fmt.Sprint(n) {
				t.Fatalf("wrote %v, read %v", n, read)
			}
			if four, ok := n.Subnet4(); ok != !tt.n.NoIPv4 || ok && len(tt.n.Subnets) == 0 && four.Prefix.String() != "10.160.1.0/24" {
				t.Fatal(four)
			}
			if _, ok := n.Subnet6(); ok != tt.n.IPv6 {
				t.Fatal(n)
			}
			if name := must(s.Remove(n.Name)); name != n.Name {
				t.Fatal(name)
			}
			if _, err := s.Get(n.Name); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		})
	}
}

func TestNoSubnetIsFree(t *testing.T) {
	s := fresh(t, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15")
	if _, err := s.Create(Network{Name: "n"}); err == nil || !strings.Contains(err.Error(), "--subnet") {
		t.Fatal(err)
	}
	s = fresh(t, "10.0.0.0/8", "172.24.0.0/16")
	if n := must(s.Create(Network{Name: "n"})); n.Subnets[0].Prefix.String() != "172.25.0.0/24" {
		t.Fatal(n)
	}
}

// 32 makers of networks at once: each has a subnet of its own, and one of each name's makers wins.
func TestCreateAtOnce(t *testing.T) {
	s := fresh(t)
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() { _, errs[i] = s.Create(Network{Name: fmt.Sprint("n", i/2)}) })
	}
	wg.Wait()
	for i := range 16 {
		if (errs[2*i] == nil) == (errs[2*i+1] == nil) {
			t.Error(errs[2*i], errs[2*i+1])
		}
	}
	seen := map[netip.Prefix]bool{}
	for _, n := range must(s.List())[:] {
		for _, sub := range n.Subnets {
			if seen[sub.Prefix] {
				t.Error("twice", sub.Prefix)
			}
			seen[sub.Prefix] = true
		}
	}
	if len(seen) != 16 {
		t.Error(len(seen))
	}
}

func TestDamaged(t *testing.T) {
	s := fresh(t)
	must(s.Create(Network{Name: "good"}))
	n := must(s.Create(Network{Name: "bad"}))
	for _, text := range []string{"", "{", `{"version":1,"name":"other","id":"` + n.ID + `"}`} {
		if err := disk.WriteFile(s.file("bad"), []byte(text), 0o600, disk.Volatile); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get("bad"); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "skiff network rm bad") {
			t.Fatal(err)
		}
		if all, err := s.List(); len(all) != 4 || !errors.Is(err, ErrCorrupt) {
			t.Fatal(all, err)
		}
	}
	must(s.Remove("bad"))
	if err := os.WriteFile(s.file("new"), []byte(`{"version":99,"name":"new","id":"`+n.ID+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("new"); err == nil || !strings.Contains(err.Error(), "newer skiff") {
		t.Fatal(err)
	}
}

// said is routes as words.
func said(routes Routes) (text string) {
	for _, r := range routes {
		text += r.String() + " " + r.Via + ";"
	}
	return text
}

func TestHostRoutes(t *testing.T) {
	const four = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t0000140A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\nrubbish\n"
	if got := said(readRoutes4(strings.NewReader(four))); got != "10.20.0.0/24 eth0;" {
		t.Error(got)
	}
	const six = "fd000001000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n" +
		"fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\nx\n"
	if got := said(readRoutes6(strings.NewReader(six))); got != "fd00:1::/64 eth0;" {
		t.Error(got)
	}
	if got := said(readServers(strings.NewReader("# x\nnameserver 10.150.0.1\nnameserver fe80::1%eth0\nnameserver\nsearch a\n"))); got != "10.150.0.1/32 ;fe80::1/128 ;" {
		t.Error(got)
	}
	HostRoutes() // whatever this machine has
}

// Whatever a network's file says, the network is what it says or is named as damaged, with the way out; other networks are listed; and it can be removed.
func FuzzNetworkFile(f *testing.F) {
	id := strings.Repeat("ab", 32)
	f.Add([]byte(`{"version":1,"name":"n","id":"` + id + `","driver":"bridge","subnets":[{"prefix":"10.9.0.0/24","gateway":"10.9.0.1"}]}`))
	f.Add([]byte(`{"version":1,"name":"n","id":"../../../../../etc` + id[20:] + `"}`))
	f.Add([]byte(`{"version":99,"name":"n","id":"` + id + `"}`))
	f.Add([]byte(`{"version":1,"name":"n","id":"` + id + `","subnets":[{"prefix":"0.0.0.0/0"},{"prefix":"::/128","range":"10.0.0.0/8","reserved":{"a":""}}]}`))
	data, run := f.TempDir(), f.TempDir()
	s := Open(data, run)
	s.hosts = func() Routes { return Routes{} }
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := errors.Join(os.MkdirAll(s.dir, 0o700), os.WriteFile(s.file("n"), text, 0o600)); err != nil {
			t.Fatal(err)
		}
		n, err := s.Find("n")
		switch {
		case err == nil && (n.Name != "n" || len(n.ID) != 64 || !isHex(n.ID)):
			t.Fatalf("%+v", n)
		case err != nil && !errors.Is(err, ErrCorrupt) && !strings.Contains(err.Error(), "newer skiff"):
			t.Fatal(err)
		}
		if all, _ := s.List(); len(all) < 3 {
			t.Fatalf("%d networks are listed", len(all))
		}
		if err == nil {
			_, _ = s.Attach(n, Endpoint{Container: id, Name: "web", Alive: filepath.Join(data, "alive")})
		}
		if err == nil || errors.Is(err, ErrCorrupt) {
			if _, err := s.Remove("n"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestWordsOfRunAreNoNames(t *testing.T) {
	for _, word := range []string{"lxc-user-nic", "pasta", "slirp4netns", "container"} {
		if err := CheckName(word); err == nil {
			t.Errorf("a network may be called %s", word)
		}
	}
}
