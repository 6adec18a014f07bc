// Package uplink is a network's way out: a user-mode TCP/IP stack (gVisor's) that ends the connections of containers and makes them again from the host, with ordinary
// sockets, as an ordinary user.
//
// It is part of the switch (an engine process). The TUN device is in the switch's network namespace; the sockets it makes are in the process's own, the host's.
package uplink

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

const nic = 1

// Uplink is a running stack.
type Uplink struct {
	stack  *stack.Stack
	link   stack.LinkEndpoint
	limits usage

	mu     sync.Mutex
	open   usage
	guests map[netip.Addr]*guest
}

// Start runs a stack on a TUN device (Device), which it owns from then on.
func Start(device *os.File) (*Uplink, error) { return start(newLink(device, relay.MTU), "") }

// start runs a stack on a link; peer is the address of the switch's interface, behind which everybody is, where the link has such addresses. It is not asked for: see makeStack in netswitch.
func start(end stack.LinkEndpoint, peer tcpip.LinkAddress) (*Uplink, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        false,
	})
	u := &Uplink{stack: s, link: end, limits: limits(), guests: map[netip.Addr]*guest{}}
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
	}{{ipv4.ProtocolNumber, netip.PrefixFrom(relay.Gateway4, relay.Local4.Bits())}, {ipv6.ProtocolNumber, netip.PrefixFrom(relay.Gateway6, relay.Local6.Bits())}} {
		address := tcpip.ProtocolAddress{Protocol: a.number, AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(a.prefix.Addr().AsSlice()), PrefixLen: a.prefix.Bits(),
		}}
		if err := s.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("cannot set up the uplink: %s", err)
		}
	}
	routes := []tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}}
	if peer != "" {
		routes[0].Gateway = tcpip.AddrFromSlice(relay.Local4.Addr().AsSlice())
		routes[1].Gateway = tcpip.AddrFromSlice(relay.Local6.Addr().AsSlice())
		for i, number := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
			if err := s.AddStaticNeighbor(nic, number, routes[i].Gateway, peer); err != nil {
				return nil, fmt.Errorf("cannot set up the uplink: %s", err)
			}
		}
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

// target is where what is sent to an address is sent from the host (relay.Target).
func target(to tcpip.Address, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(to.AsSlice())
	if !ok {
		return netip.AddrPort{}, false
	}
	return relay.Target(netip.AddrPortFrom(a, port))
}
