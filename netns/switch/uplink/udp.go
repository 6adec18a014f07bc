package uplink

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// acceptUDP begins a flow.
func (u *Uplink) acceptUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	to, ok := target(id.LocalAddress, id.LocalPort)
	if !ok {
		return true // dropped: an answer would say that there is something
	}
	t := u.enter(id.RemoteAddress, flows)
	if t == nil {
		return true
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.leave()
		return false // the stack answers that the port cannot be reached
	}
	var queue waiter.Queue
	end, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		_ = out.Close() // nothing was sent
		t.leave()
		return true
	}
	in := gonet.NewUDPConn(&queue, end)
	idle := relay.IdleOf(id.LocalPort)
	go func() {
		defer t.leave()
		if !t.until(func() { _ = out.Close() }) { // the goroutines that carry do the rest
			idle = relay.Idle{} // at once
		}
		relay.Carry(in, out, idle, nil)
	}()
	return true
}

// client4 and client6 stand for clients that came over the host's loopback, whose addresses no network but the host's own knows.
var (
	client4 = netip.MustParseAddr("198.18.254.1")
	client6 = netip.MustParseAddr("fd5c:1f00:0:1::1")
)

// DialUDP makes a flow to a container that has from, any address, as its own.
func (u *Uplink) DialUDP(from, to netip.AddrPort) (net.Conn, error) {
	number := ipv4.ProtocolNumber
	if to.Addr().Is6() {
		number = ipv6.ProtocolNumber
	}
	if a := from.Addr(); a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4() != to.Addr().Is4() {
		a = client4
		if to.Addr().Is6() {
			a = client6
		}
		from = netip.AddrPortFrom(a, from.Port())
	}
	full := func(a netip.AddrPort) *tcpip.FullAddress {
		return &tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
	}
	return gonet.DialUDP(u.stack, full(from), full(to), number)
}
