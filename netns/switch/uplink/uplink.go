// Package uplink is a network's way out: a user-mode TCP/IP stack (gVisor's) that ends the connections of containers and makes them again from the host, with ordinary
// sockets, as an ordinary user.
//
// It is part of the switch (an engine process). The TUN device is in the switch's network namespace; the sockets it makes are in the process's own, the host's.
package uplink

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/skiff-containers/skiff/netns"
)

// MTU is the device's: large, since nothing is ever sent over a wire as it is.
const MTU = 65520

// The addresses of the link. They are from ranges that no host routes (RFC 2544, RFC 4193), and seen by nobody but the switch's namespace.
var (
	Gateway4 = netip.MustParseAddr(netns.HostGateway) // the stack's side; for containers that may, the host's loopback
	Local4   = netip.MustParsePrefix("198.18.255.2/30")
	Gateway6 = netip.MustParseAddr("fd5c:1f00::1")
	Local6   = netip.MustParsePrefix("fd5c:1f00::2/64")
)

const nic = 1

// Uplink is a running stack.
type Uplink struct {
	stack *stack.Stack
	link  stack.LinkEndpoint
	flows atomic.Int64 // of UDP, open ones
}

// Start runs a stack on a TUN device (Device), which it owns from then on.
func Start(device *os.File) (*Uplink, error) { return start(newLink(device, MTU), false) }

// start runs a stack on a link; ethernet says that it has neighbours to be asked for, of whom all but the switch's interface are behind that.
func start(end stack.LinkEndpoint, ethernet bool) (*Uplink, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        false,
	})
	u := &Uplink{stack: s, link: end}
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 8 << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 8 << 20}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &receive, &send} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return nil, fmt.Errorf("cannot set up the uplink: %s", err)
		}
	}
	// The handlers are there before the first packet is.
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, maxConnecting, u.acceptTCP).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, u.acceptUDP).HandlePacket)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, u.acceptEcho)
	if err := s.CreateNIC(nic, u.link); err != nil {
		return nil, fmt.Errorf("cannot set up the uplink: %s", err)
	}
	// Whatever comes is for us, and we answer as whoever was meant.
	s.SetPromiscuousMode(nic, true)
	s.SetSpoofing(nic, true)
	for _, a := range []struct {
		number tcpip.NetworkProtocolNumber
		prefix netip.Prefix
	}{{ipv4.ProtocolNumber, netip.PrefixFrom(Gateway4, Local4.Bits())}, {ipv6.ProtocolNumber, netip.PrefixFrom(Gateway6, Local6.Bits())}} {
		address := tcpip.ProtocolAddress{Protocol: a.number, AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(a.prefix.Addr().AsSlice()), PrefixLen: a.prefix.Bits(),
		}}
		if err := s.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("cannot set up the uplink: %s", err)
		}
	}
	routes := []tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}}
	if ethernet {
		routes[0].Gateway = tcpip.AddrFromSlice(Local4.Addr().AsSlice())
		routes[1].Gateway = tcpip.AddrFromSlice(Local6.Addr().AsSlice())
	}
	s.SetRouteTable(routes)
	return u, nil
}

// Close ends every connection and the device.
func (u *Uplink) Close() {
	u.stack.Close()
	// The reader ends first: the stack holds the lock that the reader needs while it waits for it.
	u.link.Attach(nil)
	u.link.Close()
	u.link.Wait()
	u.stack.Wait()
}

// target is where a connection to an address is made from the host; ok false refuses it. The host's loopback is reached by the gateway's address
// alone, which the switch lets only those containers send to that were given it.
func target(to tcpip.Address, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(to.AsSlice())
	if !ok {
		return netip.AddrPort{}, false
	}
	a = a.Unmap()
	switch {
	case a == Gateway4:
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a == Gateway6:
		a = netip.IPv6Loopback()
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, port), true
}
