package dhcp

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
)

// shortest is the shortest time that an address is taken to hold: a server that gives less would be asked without end.
const shortest = 2 * time.Second

// forever is how a server says that a lease does not end (RFC 2131, section 3.3).
const forever = math.MaxUint32 * time.Second

// read makes a lease of what a server said; what it leaves out when it is renewed is as before.
func read(ack *dhcpv4.DHCPv4, before *stage.Lease) (*stage.Lease, error) {
	own, ok := address(ack.YourIPAddr)
	if !ok || own.IsUnspecified() || own.IsMulticast() || own.IsLoopback() {
		return nil, errors.New("the server's answer has no address")
	}
	if before == nil || before.Address.Addr() != own {
		before = &stage.Lease{}
	}
	l := &stage.Lease{Gateway: before.Gateway, Servers: before.Servers, Search: before.Search, Ack: ack.ToBytes()}
	bits, size := ack.SubnetMask().Size()
	switch {
	case size == 32 && bits > 0:
	case before.Address.IsValid():
		bits = before.Address.Bits()
	default:
		bits, size = net.IP(own.AsSlice()).DefaultMask().Size()
		if size == 0 {
			bits = 32
		}
	}
	l.Address = netip.PrefixFrom(own, bits)
	if routers := addresses(ack.Router()); len(routers) > 0 {
		l.Gateway = routers[0]
	}
	if servers := addresses(ack.DNS()); len(servers) > 0 {
		l.Servers = servers
	}
	if domains := domains(ack); len(domains) > 0 {
		l.Search = domains
	}
	length := ack.IPAddressLeaseTime(0)
	switch {
	case length <= 0:
		return nil, errors.New("the server does not say for how long")
	case length >= forever:
		return l, nil
	}
	l.Length = max(length, shortest)
	l.Renew = within(ack.IPAddressRenewalTime(0), l.Length/2, l.Length)
	l.Rebind = max(within(ack.IPAddressRebindingTime(0), l.Length/8*7, l.Length), l.Renew)
	return l, nil
}

// within is a time that a server may have said, or the usual one.
func within(said, usual, limit time.Duration) time.Duration {
	if said <= 0 || said >= limit {
		return usual
	}
	return said
}

// domains are those that names without dots are looked for in. They go into a resolv.conf, so that what is none is left out.
func domains(ack *dhcpv4.DHCPv4) (all []string) {
	var list []string
	if labels := ack.DomainSearch(); labels != nil {
		list = labels.Labels
	}
	if len(list) == 0 {
		list = []string{ack.DomainName()}
	}
	for _, d := range list {
		if d != "." && config.CheckSearch(d) == nil {
			all = append(all, d)
		}
	}
	return all
}

func address(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok
}

func addresses(ips []net.IP) (all []netip.Addr) {
	for _, ip := range ips {
		if a, ok := address(ip); ok && !a.IsUnspecified() {
			all = append(all, a)
		}
	}
	return all
}
