package netswitch

// The guard of a bridge port: a container speaks with its own addresses only, and only of them.

import (
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
)

// guards is the table of all ports' guards. Each port has a chain of its own at its device (family netdev, nft(8)): a frame passes the one of the port it comes in by, however many there are. A bridge's
// own hook would send it through all of them.
func guards() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: tableName}
}

// guard lets only frames with the endpoint's own addresses in from a bridge port: a container cannot take its neighbour's.
func (s *space) guard(port string, e netns.Endpoint) error {
	hardware, err := net.ParseMAC(e.MAC)
	if err != nil {
		return err
	}
	return s.filter(func(c *nftables.Conn) error {
		t := guards()
		c.AddTable(t)
		chain := &nftables.Chain{Name: port, Table: t}
		if s.inherited { // it may be there: since Linux 6.16 a chain outlives its device
			c.AddChain(chain)
			c.DelChain(chain)
		}
		writeGuard(c, t, port, e, hardware)
		return nil
	})
}

// unguard forgets bridge ports.
func (s *space) unguard(ports ...string) {
	_ = s.filter(func(c *nftables.Conn) error { // a chain more that nothing passes
		chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
		if err != nil {
			return err
		}
		for _, chain := range chains { // most kernels have removed them with their devices
			if chain.Table.Name == tableName && slices.Contains(ports, chain.Name) {
				c.DelChain(chain)
			}
		}
		return nil
	})
}

// dropGuards removes the guards of ports that are no more: their containers ended when there was no switch. The rules are listed first, since a port is there before its guard.
func (s *space) dropGuards() error {
	return s.filter(func(c *nftables.Conn) error {
		chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
		if err != nil {
			return err
		}
		links, err := s.link.LinkList()
		if err != nil {
			return err
		}
		for _, chain := range chains {
			port := func(l netlink.Link) bool { return l.Attrs().Name == chain.Name }
			if chain.Table.Name == tableName && !slices.ContainsFunc(links, port) {
				c.DelChain(chain)
			}
		}
		return nil
	})
}

// Types of ICMPv6 (RFC 4861) that only a router or an address's owner may send.
const (
	routerAdvertisement   = 134
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	redirect              = 137
)

// Offsets of what the rules look at.
const (
	etherSource  = 6
	arpHardware  = 8  // of the sender
	arpAddress   = 14 // likewise
	source4      = 12
	source6      = 8
	icmpType     = 0
	icmpNeighbor = 8 // the address that a solicitation or an advertisement is about
)

// writeGuard adds the chain of a port.
func writeGuard(c *nftables.Conn, t *nftables.Table, port string, e netns.Endpoint, hardware net.HardwareAddr) {
	accept := nftables.ChainPolicyAccept
	priority := nftables.ChainPriority(-300)
	chain := c.AddChain(&nftables.Chain{
		Name: port, Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress, Device: port, Priority: &priority, Policy: &accept,
	})
	rule := func(parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(parts...)})
	}
	dropped := []expr.Any{drop()}
	rule(other(expr.PayloadBaseLLHeader, etherSource, hardware), dropped)
	// The kernel has taken one tag off. Below another one the rules would not see what a neighbour takes for untagged (VLAN 0).
	rule(protocol(unix.ETH_P_8021Q), dropped)
	rule(protocol(unix.ETH_P_8021AD), dropped)
	if four := e.IPv4; four.IsValid() {
		rule(protocol(unix.ETH_P_IP), other(expr.PayloadBaseNetworkHeader, source4, four.AsSlice()), dropped)
		rule(protocol(unix.ETH_P_ARP), other(expr.PayloadBaseNetworkHeader, arpHardware, hardware), dropped)
		rule(protocol(unix.ETH_P_ARP), other(expr.PayloadBaseNetworkHeader, arpAddress, four.AsSlice()), dropped)
	} else {
		rule(protocol(unix.ETH_P_IP), dropped)
		rule(protocol(unix.ETH_P_ARP), dropped)
	}
	// IPv6's rules hold on networks without it too: containers have link-local addresses there, and would follow a neighbour that says it is their router (CVE-2020-10749).
	own := [][]byte{linkLocal(hardware).AsSlice()}
	if e.IPv6.IsValid() {
		own = append(own, e.IPv6.AsSlice())
	}
	none := netip.IPv6Unspecified().AsSlice() // who looks whether an address is free has none yet (RFC 4862, 5.4.2)
	six := protocol(unix.ETH_P_IPV6)
	rule(six, other(expr.PayloadBaseNetworkHeader, source6, append(own, none)...), dropped)
	// Nor does it speak for others: it does not answer for their addresses, and does not claim them from those who look whether they are free.
	rule(six, icmp6(neighborAdvertisement), other(expr.PayloadBaseTransportHeader, icmpNeighbor, own...), dropped)
	rule(six, same(expr.PayloadBaseNetworkHeader, source6, none), icmp6(neighborSolicitation), other(expr.PayloadBaseTransportHeader, icmpNeighbor, own...), dropped)
	for _, kind := range []byte{routerAdvertisement, redirect} {
		rule(six, icmp6(kind), dropped)
	}
}

// linkLocal is the link-local address that follows from a MAC address (RFC 4291, appendix A). It is the only one that a container may have: dress sees to it that the kernel
// chooses it, whatever the host's setting of addr_gen_mode.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// protocol matches frames of an ether type.
func protocol(ether uint16) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(ether)}}
}

// icmp6 matches messages of ICMPv6, behind extension headers too.
func icmp6(kind byte) []expr.Any {
	return append([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
	}, same(expr.PayloadBaseTransportHeader, icmpType, []byte{kind})...)
}

// same matches frames that have these bytes at an offset, other those that have none of them there.
func same(base expr.PayloadBase, offset uint32, want []byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(want))}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want}}
}

func other(base expr.PayloadBase, offset uint32, than ...[]byte) []expr.Any {
	match := []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(than[0]))}}
	for _, t := range than {
		match = append(match, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: t})
	}
	return match
}
