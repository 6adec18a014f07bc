package relay

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// pieces puts packets together that come out of the device in fragments (RFC 791, 8200). The kernel has put them together once already, for our rules, and cut them anew as they came: so they are in order and none is
// missing. Of each sender there is one packet at a time.
type pieces map[netip.Addr]*piece

// piece is the beginning of a packet.
type piece struct {
	to       netip.Addr
	id       uint32
	protocol byte
	head     int // length of the IP header
	all      []byte
}

const (
	headerFragment = 8
	maxPacket      = 1<<16 - 1
)

// whole returns a packet as it is when it is no fragment, and what has become whole by it when it is the last one; else nothing.
func (s pieces) whole(b []byte) []byte {
	var from netip.Addr
	var now piece
	var offset int
	var more bool
	switch {
	case len(b) >= header4 && b[0]>>4 == 4:
		fragment, head, length := binary.BigEndian.Uint16(b[6:]), int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if fragment&0x3fff == 0 {
			return b
		}
		if head < header4 || length < head || length > len(b) {
			return nil
		}
		from, offset, more = netip.AddrFrom4([4]byte(b[12:])), int(fragment&0x1fff)*8, fragment&0x2000 != 0
		now = piece{netip.AddrFrom4([4]byte(b[16:])), uint32(binary.BigEndian.Uint16(b[4:])), b[9], head, b[:length]}
	case len(b) >= header6+headerFragment && b[0]>>4 == 6 && b[6] == unix.IPPROTO_FRAGMENT:
		length := header6 + int(binary.BigEndian.Uint16(b[4:]))
		if length < header6+headerFragment || length > len(b) {
			return nil
		}
		fragment := binary.BigEndian.Uint16(b[header6+2:])
		from, offset, more = netip.AddrFrom16([16]byte(b[8:])), int(fragment&^7), fragment&1 != 0
		now = piece{netip.AddrFrom16([16]byte(b[24:])), binary.BigEndian.Uint32(b[header6+4:]), b[header6], header6, slices.Concat(b[:header6], b[header6+headerFragment:length])}
		now.all[6] = now.protocol
	default:
		return b
	}
	p := s[from]
	if offset == 0 {
		p = &piece{now.to, now.id, now.protocol, now.head, slices.Clone(now.all)}
		s[from] = p
		return nil
	}
	body := now.all[now.head:]
	if p == nil || p.to != now.to || p.id != now.id || p.protocol != now.protocol || len(p.all)-p.head != offset || len(p.all)+len(body) > maxPacket {
		delete(s, from)
		return nil
	}
	p.all = append(p.all, body...)
	if more {
		return nil
	}
	delete(s, from)
	if from.Is4() {
		binary.BigEndian.PutUint16(p.all[2:], uint16(len(p.all)))
		p.all[6], p.all[7] = 0, 0
	} else {
		binary.BigEndian.PutUint16(p.all[4:], uint16(len(p.all)-header6))
	}
	return p.all
}
