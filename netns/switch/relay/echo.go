package relay

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/sys/unix"
)

// echoWait is how long an answer is waited for.
const echoWait = 10 * time.Second

// echo asks the host for an echo (ping): by a datagram socket of ICMP, which the kernel gives to the groups of net.ipv4.ping_group_range (icmp(7)). Where ours is not among
// them the container hears that it is forbidden, not nothing.
func (r *Relay) echo(p packet) {
	asks := byte(echo4)
	if p.protocol == unix.IPPROTO_ICMPV6 {
		asks = echo6
	}
	to, ok := Target(netip.AddrPortFrom(p.to, 0))
	if p.body[0] != asks || p.body[1] != 0 || !ok {
		return
	}
	r.mu.Lock()
	u := r.enter(p.from, flows)
	r.mu.Unlock()
	if u == nil {
		return
	}
	p.all = slices.Clone(p.all)
	p, _ = parse(p.all)
	go func() {
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.leave(u, flows)
		}()
		answer, err := echo(to.Addr(), p.body)
		if err == nil {
			copy(answer[4:6], p.body[4:6]) // the identifier, which the kernel has changed
			r.put(build(p.to, p.from, p.protocol, answer, sumICMP))
		} else if why, ok := because(err, p.to); ok {
			r.put(p.unreachable(why))
		}
	}()
}

// echo sends a request from the host and returns the answer to it.
func echo(to netip.Addr, request []byte) ([]byte, error) {
	network, wildcard, reply := "udp4", "0.0.0.0", byte(echoReply4)
	if to.Is6() {
		network, wildcard, reply = "udp6", "::", echoReply6
	}
	c, err := icmp.ListenPacket(network, wildcard)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing was written that could be lost
	if err := c.SetDeadline(time.Now().Add(echoWait)); err != nil {
		return nil, err
	}
	if _, err := c.WriteTo(request, &net.UDPAddr{IP: to.AsSlice()}); err != nil {
		return nil, err
	}
	answer := make([]byte, len(request)+headerICMP)
	for {
		n, _, err := c.ReadFrom(answer)
		if err != nil {
			return nil, err
		}
		if n >= headerICMP && answer[0] == reply && answer[6] == request[6] && answer[7] == request[7] {
			return answer[:n], nil
		}
	}
}
