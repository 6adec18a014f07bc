package uplink

import (
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// A flow without packets is forgotten: name look-ups soon, others as conntrack does.
const (
	idleUDP  = 180 * time.Second
	idleName = 10 * time.Second
)

// maxFlows is how many flows there may be at once: each has a descriptor of the switch, and without a limit one container could take those that everybody's
// connections need. Datagrams that would begin a further one are dropped.
const maxFlows = 4096

// acceptUDP begins a flow.
func (u *Uplink) acceptUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	to, ok := target(id.LocalAddress, id.LocalPort)
	if !ok {
		return true // dropped: an answer would say that there is something
	}
	if u.flows.Add(1) > maxFlows {
		u.flows.Add(-1)
		return true
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		u.flows.Add(-1)
		return false // the stack answers that the port cannot be reached
	}
	var queue waiter.Queue
	end, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		_ = out.Close() // nothing was sent
		u.flows.Add(-1)
		return true
	}
	idle := idleUDP
	if id.LocalPort == 53 {
		idle = idleName
	}
	in := gonet.NewUDPConn(&queue, end)
	u.remember(id.RemoteAddress, out, true)
	go func() {
		relay.Carry(in, out, idle, nil)
		u.remember(id.RemoteAddress, out, false)
		u.flows.Add(-1)
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
