package dhcp

import (
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/skiff-containers/skiff/run/stage"
)

func ack(t testing.TB, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	d, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(10, 0, 3, 7))}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func option(o dhcpv4.Option) dhcpv4.Modifier { return dhcpv4.WithOption(o) }

func TestRead(t *testing.T) {
	hour := option(dhcpv4.OptIPAddressLeaseTime(time.Hour))
	own := netip.MustParsePrefix("10.0.3.7/24")
	router := netip.MustParseAddr("10.0.3.1")
	before := &stage.Lease{Address: own, Gateway: router, Servers: []netip.Addr{router}, Search: []string{"old.example"}}
	full := []dhcpv4.Modifier{
		hour, dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 0, 3, 1), net.IPv4(10, 0, 3, 2)), dhcpv4.WithDNS(net.IPv4(10, 0, 3, 1)),
		option(dhcpv4.OptDomainName("lxc.example")),
	}
	tests := []struct {
		name      string
		said      []dhcpv4.Modifier
		before    *stage.Lease
		want      stage.Lease // but for what the server said
		expectErr bool
	}{
		{
			"full", full, nil,
			stage.Lease{Address: own, Gateway: router, Servers: []netip.Addr{router}, Search: []string{"lxc.example"}, Length: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second},
			false,
		},
		{
			"search list", append(full, option(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{"a.example", "b.example"}}))), nil,
			stage.Lease{Address: own, Gateway: router, Servers: []netip.Addr{router}, Search: []string{"a.example", "b.example"}, Length: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second},
			false,
		},
		{
			"a renewal that says little",
			[]dhcpv4.Modifier{hour},
			before,
			stage.Lease{Address: own, Gateway: router, Servers: []netip.Addr{router}, Search: []string{"old.example"}, Length: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second},
			false,
		},
		{
			"another address has nothing of the one before",
			[]dhcpv4.Modifier{hour, dhcpv4.WithYourIP(net.IPv4(192, 168, 9, 9))},
			before,
			stage.Lease{Address: netip.MustParsePrefix("192.168.9.9/24"), Length: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second},
			false,
		},
		{
			"the server's own times",
			[]dhcpv4.Modifier{hour, option(dhcpv4.OptRenewTimeValue(time.Minute)), option(dhcpv4.OptRebindingTimeValue(2 * time.Minute))},
			nil,
			stage.Lease{Address: netip.MustParsePrefix("10.0.3.7/8"), Length: time.Hour, Renew: time.Minute, Rebind: 2 * time.Minute},
			false,
		},
		{
			"times that cannot be",
			[]dhcpv4.Modifier{hour, option(dhcpv4.OptRenewTimeValue(2 * time.Hour)), option(dhcpv4.OptRebindingTimeValue(time.Minute))},
			nil,
			stage.Lease{Address: netip.MustParsePrefix("10.0.3.7/8"), Length: time.Hour, Renew: 30 * time.Minute, Rebind: 30 * time.Minute},
			false,
		},
		{"for ever", []dhcpv4.Modifier{option(dhcpv4.OptIPAddressLeaseTime(forever))}, nil, stage.Lease{Address: netip.MustParsePrefix("10.0.3.7/8")}, false},
		{"no time", nil, nil, stage.Lease{}, true},
		{"no address", []dhcpv4.Modifier{hour, dhcpv4.WithYourIP(net.IPv4zero)}, nil, stage.Lease{}, true},
		{"the host's loopback", []dhcpv4.Modifier{hour, dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1))}, nil, stage.Lease{}, true},
		{
			"lines for resolv.conf",
			[]dhcpv4.Modifier{hour, option(dhcpv4.OptDomainName("x\nnameserver 6.6.6.6"))},
			nil,
			stage.Lease{Address: netip.MustParsePrefix("10.0.3.7/8"), Length: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second},
			false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(ack(t, tt.said...), tt.before)
			if (err != nil) != tt.expectErr {
				t.Fatalf("the error is %v", err)
			}
			if err != nil {
				return
			}
			if got.Ack == nil {
				t.Error("what the server said is lost")
			}
			got.Ack = nil
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

// Whatever a server says, a lease is one that can be kept: an address, times in their order, and no words that are two in a resolv.conf.
func FuzzRead(f *testing.F) {
	f.Add(ack(f, option(dhcpv4.OptIPAddressLeaseTime(time.Hour)), option(dhcpv4.OptDomainName("lxc.example"))).ToBytes())
	f.Add(ack(f, option(dhcpv4.OptIPAddressLeaseTime(time.Second)), option(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{"a.b", "c"}}))).ToBytes())
	f.Fuzz(func(t *testing.T, said []byte) {
		d, err := dhcpv4.FromBytes(said)
		if err != nil {
			return
		}
		l, err := read(d, nil)
		if err != nil {
			return
		}
		if !l.Address.IsValid() || !l.Address.Addr().Is4() || l.Length < 0 || l.Length > 0 && (l.Renew <= 0 || l.Renew > l.Rebind || l.Rebind > l.Length) {
			t.Errorf("got %+v", l)
		}
		for _, d := range l.Search {
			for _, r := range d {
				if r <= ' ' {
					t.Errorf("the domain %q has more than one word", d)
				}
			}
		}
		if _, err := dhcpv4.FromBytes(l.Ack); err != nil {
			t.Errorf("what is kept cannot be read again: %v", err)
		}
	})
}
