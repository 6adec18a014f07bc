package relay

// IP packets, as far as first packets and the answers to them go (RFC 791, 8200, 9293, 768, 792, 4443).

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

const (
	header4, header6 = 20, 40
	headerTCP        = 20
	headerUDP        = 8
	headerICMP       = 8
)

// Flags of TCP.
const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagACK = 16
)

// Messages of ICMP, by the family.
const (
	echo4, echoReply4, unreachable4 = 8, 0, 3
	echo6, echoReply6, unreachable6 = 128, 129, 1
)

// packet is an IP packet that is whole.
type packet struct {
	all      []byte
	from, to netip.Addr
	protocol byte
	body     []byte // what follows the IP header: header and payload of the transport
}

// parse reads a packet. Fragments are none (pieces puts them together), nor are packets of IPv6 with extension headers.
func parse(b []byte) (p packet, ok bool) {
	if len(b) < header4 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		head, length := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if head < header4 || length < head || length > len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return p, false
		}
		p = packet{all: b[:length], protocol: b[9], body: b[head:length]}
		p.from, p.to = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case 6:
		if len(b) < header6 {
			return p, false
		}
		length := header6 + int(binary.BigEndian.Uint16(b[4:]))
		if length > len(b) {
			return p, false
		}
		p = packet{all: b[:length], protocol: b[6], body: b[header6:length]}
		p.from, p.to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	default:
		return p, false
	}
	switch p.protocol {
	case unix.IPPROTO_TCP:
		return p, len(p.body) >= headerTCP
	case unix.IPPROTO_UDP:
		return p, len(p.body) >= headerUDP
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return p, len(p.body) >= headerICMP && (p.protocol == unix.IPPROTO_ICMP) == p.from.Is4()
	}
	return p, false
}

// tuple is the packet's connection or flow: TCP and UDP begin with the ports.
func (p packet) tuple() tuple {
	return tuple{
		netip.AddrPortFrom(p.from, binary.BigEndian.Uint16(p.body)),
		netip.AddrPortFrom(p.to, binary.BigEndian.Uint16(p.body[2:])),
	}
}

func (p packet) flags() byte { return p.body[13] }

// header is the header of TCP with its options; none where it is not whole.
func (p packet) header() []byte {
	n := int(p.body[12]>>4) * 4
	if n > len(p.body) {
		return nil
	}
	return p.body[:n]
}

// bare is a segment anew without what it carries, which is sent again later, and with its checksum, which a packet socket does without.
func (p packet) bare() []byte { return build(p.from, p.to, p.protocol, p.header(), sumTCP) }

// make builds a packet with a body, the checksum of which is at an offset.
func build(from, to netip.Addr, protocol byte, body []byte, sum int) []byte {
	head := header4
	if from.Is6() {
		head = header6
	}
	b := make([]byte, head, head+len(body))
	if from.Is6() {
		b[0], b[6], b[7] = 6<<4, protocol, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
		copy(b[8:], from.AsSlice())
		copy(b[24:], to.AsSlice())
	} else {
		b[0], b[8], b[9] = 4<<4|header4/4, 64, protocol
		binary.BigEndian.PutUint16(b[2:], uint16(head+len(body)))
		copy(b[12:], from.AsSlice())
		copy(b[16:], to.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^fold(add(0, b)))
	}
	b = append(b, body...)
	seal(b[head:], from, to, protocol, sum)
	return b
}

// seal writes the checksum of a body at an offset.
func seal(body []byte, from, to netip.Addr, protocol byte, sum int) {
	binary.BigEndian.PutUint16(body[sum:], 0)
	var n uint32
	if protocol != unix.IPPROTO_ICMP { // that has no pseudo header
		n = add(add(n, from.AsSlice()), to.AsSlice()) + uint32(protocol) + uint32(len(body))
	}
	binary.BigEndian.PutUint16(body[sum:], ^fold(add(n, body)))
}

// add adds bytes to a sum of 16-bit words (RFC 1071).
func add(n uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		n += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		n += uint32(b[0]) << 8
	}
	return n
}

func fold(n uint32) uint16 {
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}

// Offsets of checksums.
const (
	sumTCP  = 16
	sumICMP = 2
)

// reset is the answer to a packet of a connection that nobody has (RFC 9293, 3.10.7.1).
func (p packet) reset() []byte {
	b := make([]byte, headerTCP)
	copy(b, p.body[2:4])
	copy(b[2:], p.body[:2])
	b[12] = headerTCP / 4 << 4
	if p.flags()&flagACK != 0 {
		copy(b[4:8], p.body[8:12])
		b[13] = flagRST
	} else {
		length := uint32(len(p.body)) - uint32(p.body[12]>>4)*4
		for _, f := range []byte{flagSYN, flagFIN} {
			if p.flags()&f != 0 {
				length++
			}
		}
		binary.BigEndian.PutUint32(b[8:], binary.BigEndian.Uint32(p.body[4:])+length)
		b[13] = flagRST | flagACK
	}
	return build(p.to, p.from, unix.IPPROTO_TCP, b, sumTCP)
}

// reason is why something cannot be reached: the codes of ICMP for it.
type reason struct{ four, six byte }

var (
	noNetwork  = reason{0, 0}
	noHost     = reason{1, 3}
	noPort     = reason{3, 4}
	prohibited = reason{13, 1}
)

// because is the reason in an error of one of the host's sockets that are to send to an address; ok false when it is none that a container should hear of.
func because(err error, to netip.Addr) (why reason, ok bool) {
	switch {
	case errors.Is(err, os.ErrPermission): // EACCES, EPERM
		return prohibited, true
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL) && to.Is6(): // a route, but no address; of IPv4 it is that all ports are taken
		return noNetwork, true
	case errors.Is(err, unix.EHOSTUNREACH):
		return noHost, true
	}
	return reason{}, false
}

// unreachable says to whoever sent a packet why it has not arrived, in the name of whom it was sent to.
func (p packet) unreachable(why reason) []byte {
	kind, code, protocol, quote := byte(unreachable4), why.four, byte(unix.IPPROTO_ICMP), header4*3+8
	if p.from.Is6() {
		kind, code, protocol, quote = unreachable6, why.six, unix.IPPROTO_ICMPV6, header6+8
	}
	b := make([]byte, headerICMP, headerICMP+quote)
	b[0], b[1] = kind, code
	b = append(b, p.all[:min(quote, len(p.all))]...)
	return build(p.to, p.from, protocol, b, sumICMP)
}
