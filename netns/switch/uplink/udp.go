package uplink

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A flow without packets is forgotten: name look-ups soon, others as conntrack does.
const (
	idleUDP  = 180 * time.Second
	idleName = 10 * time.Second
)

// maxFlows is how many flows there may be at once: each has a descriptor of the switch, and without a limit one container could take those that everybody's
// connections need. Datagrams that would begin a further one are dropped.
const maxFlows = 4096

// maxDatagram is the largest payload of UDP.
const maxDatagram = 65507

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
	var last atomic.Int64
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{out, in}, {in, out}} {
		both.Go(func() {
			carry(way[0], way[1], idle, &last)
			_ = in.Close()  // the other way's carry hears of it
			_ = out.Close() // likewise
		})
	}
	go func() {
		both.Wait()
		u.flows.Add(-1)
	}()
	return true
}

// carry passes datagrams on until none came either way for as long as idle; last is when the last one did, in nanoseconds.
func carry(to, from net.Conn, idle time.Duration, last *atomic.Int64) {
	buf := make([]byte, maxDatagram)
	for {
		if err := from.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		n, err := from.Read(buf)
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			continue // an answer to what was sent; the next one may arrive
		case errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err):
			if time.Since(time.Unix(0, last.Load())) < idle {
				continue // the other way is in use
			}
			return
		case err != nil:
			return
		}
		last.Store(time.Now().UnixNano())
		if _, err := to.Write(buf[:n]); err != nil && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EMSGSIZE) {
			return
		}
	}
}

// isTimeout knows the stack's own deadlines.
func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
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
