package relay

// From which of the host's addresses a client is answered: the one that it sent to. A listener for all addresses would leave the choice to the host's routes, and a client that asked
// another address takes such an answer for a stranger's (ip(7) and ipv6(7), pktinfo).

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// controlSize has room for what the kernel says about a datagram for IPv4 that a socket of IPv6 receives: both options.
var controlSize = unix.CmsgSpace(unix.SizeofInet4Pktinfo) + unix.CmsgSpace(unix.SizeofInet6Pktinfo)

// reportLocal has the kernel say with each datagram what address it was sent to, when the listener is there for all.
func (b *batch) reportLocal() {
	at, ok := b.conn.LocalAddr().(*net.UDPAddr)
	if !ok || b.udp == nil || !at.IP.IsUnspecified() {
		return
	}
	raw, err := b.udp.SyscallConn()
	if err != nil {
		return // closed
	}
	four, six := false, false
	_ = raw.Control(func(fd uintptr) { // closed, likewise
		four = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1) == nil
		six = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1) == nil // refused for a socket of IPv4
	})
	if !four && !six {
		return
	}
	b.control = make([][]byte, batchSize)
	for i := range b.control {
		b.control[i] = make([]byte, controlSize)
	}
}

// replyControl is what an answer to a datagram carries that came with this: its address as the one to send from. Nil leaves the choice to the host.
func replyControl(received []byte) []byte {
	all, err := unix.ParseSocketControlMessage(received)
	if err != nil {
		return nil
	}
	var own netip.Addr
	for _, m := range all {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// spec_dst is the host's own address even when the datagram went to all, but not there yet for one that came before the option was set.
			own = netip.AddrFrom4([4]byte(m.Data[4:8]))
			if own.IsUnspecified() {
				own = netip.AddrFrom4([4]byte(m.Data[8:12]))
			}
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			if a := netip.AddrFrom16([16]byte(m.Data[:16])); !a.Is4In6() { // about one of IPv4 the other option says more
				own = a
			}
		}
	}
	switch {
	case !own.IsValid() || own.IsMulticast() || own == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nil // nobody's own
	case own.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: own.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: own.As16()})
}

// received is what the kernel said about a datagram.
func received(m *ipv4.Message) []byte { return m.OOB[:m.NN] }
