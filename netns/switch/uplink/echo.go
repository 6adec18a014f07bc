package uplink

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// echoWait is how long an answer is waited for.
const echoWait = 10 * time.Second

// acceptEcho asks the host for an echo (ping): by a datagram socket of ICMP, which the kernel gives to the groups of net.ipv4.ping_group_range (icmp(7)). Where ours is not among
// them the container hears that it is forbidden, not nothing.
func (u *Uplink) acceptEcho(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv4(pkt.TransportHeader().Slice())
	if len(h) < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4Echo {
		return false
	}
	to, ok := target(id.LocalAddress, 0)
	if !ok {
		return true // dropped: an answer would say that there is something
	}
	t := u.enter(id.RemoteAddress, flows)
	if t == nil {
		return true
	}
	view := stack.PayloadSince(pkt.TransportHeader())
	request := append([]byte(nil), view.AsSlice()...)
	view.Release()
	quoted := append([]byte(nil), pkt.NetworkHeader().Slice()...)
	quoted = append(quoted, request[:min(8, len(request))]...)
	from, asked := id.RemoteAddress, id.LocalAddress
	go func() {
		defer t.leave()
		answer, err := echo(to.Addr(), request)
		switch {
		case errors.Is(err, os.ErrPermission):
			// Destination unreachable, communication administratively prohibited (RFC 1812, 5.2.7.1).
			u.sendICMP(asked, from, append([]byte{byte(header.ICMPv4DstUnreachable), byte(header.ICMPv4AdminProhibited), 0, 0, 0, 0, 0, 0}, quoted...))
		case err == nil:
			copy(answer[4:6], request[4:6]) // the identifier, which the kernel has changed
			u.sendICMP(asked, from, answer)
		}
	}()
	return true
}

// echo sends a request from the host and returns the answer to it.
func echo(to netip.Addr, request []byte) ([]byte, error) {
	c, err := icmp.ListenPacket("udp4", "0.0.0.0")
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
	answer := make([]byte, len(request)+header.ICMPv4MinimumSize)
	for {
		n, _, err := c.ReadFrom(answer)
		if err != nil {
			return nil, err
		}
		if h := header.ICMPv4(answer[:n]); n >= header.ICMPv4MinimumSize && h.Type() == header.ICMPv4EchoReply && h.Sequence() == header.ICMPv4(request).Sequence() {
			return answer[:n], nil
		}
	}
}

// sendICMP sends a message into the networks, from whoever was asked.
func (u *Uplink) sendICMP(from, to tcpip.Address, message []byte) {
	route, err := u.stack.FindRoute(nic, from, to, ipv4.ProtocolNumber, false)
	if err != nil {
		return // the stack is closing
	}
	defer route.Release()
	h := header.ICMPv4(message)
	h.SetChecksum(0)
	h.SetChecksum(^checksum.Checksum(message, 0))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: int(route.MaxHeaderLength()), Payload: buffer.MakeWithData(message)})
	defer pkt.DecRef()
	_ = route.WritePacket(stack.NetworkHeaderParams{Protocol: header.ICMPv4ProtocolNumber, TTL: route.DefaultTTL()}, pkt) // likewise
}
