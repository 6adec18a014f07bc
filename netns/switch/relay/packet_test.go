package relay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	a4, b4 = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.0.2.1")
	a6, b6 = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("2001:db8::1")
)

// syn is a SYN with a sequence number of 1000.
func syn(from, to netip.Addr) []byte {
	body := make([]byte, headerTCP)
	binary.BigEndian.PutUint16(body, 40000)
	binary.BigEndian.PutUint16(body[2:], 80)
	binary.BigEndian.PutUint32(body[4:], 1000)
	body[12], body[13] = headerTCP/4<<4, flagSYN
	return build(from, to, unix.IPPROTO_TCP, body, sumTCP)
}

// checksums says what is wrong with a packet's sums: over everything with its sum in it the result is 0 (RFC 1071).
func checksums(t *testing.T, b []byte) packet {
	t.Helper()
	p, ok := parse(b)
	if !ok {
		t.Fatalf("% x is no packet", b)
	}
	if p.from.Is4() && ^fold(add(0, b[:header4])) != 0 {
		t.Errorf("the header's checksum is wrong: % x", b[:header4])
	}
	var n uint32
	if p.protocol != unix.IPPROTO_ICMP {
		n = add(add(n, p.from.AsSlice()), p.to.AsSlice()) + uint32(p.protocol) + uint32(len(p.body))
	}
	if ^fold(add(n, p.body)) != 0 {
		t.Errorf("the body's checksum is wrong: % x", p.body)
	}
	return p
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to netip.Addr
	}{{"IPv4", a4, b4}, {"IPv6", a6, b6}} {
		t.Run(c.name, func(t *testing.T) {
			asked := checksums(t, syn(c.from, c.to))
			if want := (tuple{netip.AddrPortFrom(c.from, 40000), netip.AddrPortFrom(c.to, 80)}); asked.tuple() != want {
				t.Errorf("the tuple is %v, want %v", asked.tuple(), want)
			}
			r := checksums(t, asked.reset())
			if want := (tuple{netip.AddrPortFrom(c.to, 80), netip.AddrPortFrom(c.from, 40000)}); r.tuple() != want {
				t.Errorf("the reset is of %v, want %v", r.tuple(), want)
			}
			if r.flags() != flagRST|flagACK || binary.BigEndian.Uint32(r.body[8:]) != 1001 {
				t.Errorf("the reset has flags %#x and acknowledges %d, want 1001", r.flags(), binary.BigEndian.Uint32(r.body[8:]))
			}
			u := checksums(t, asked.unreachable(noHost))
			quoted := u.body[headerICMP:]
			if u.from != c.to || u.to != c.from || !bytes.HasPrefix(asked.all, quoted) || len(quoted) < len(asked.all)-headerTCP+8 {
				t.Errorf("the message is from %s to %s about % x", u.from, u.to, quoted)
			}
		})
	}
}

// A segment in the middle of a connection is answered by its own numbers (RFC 9293, 3.10.7.1).
func TestResetOfAnEstablishedConnection(t *testing.T) {
	b := syn(a4, b4)
	p, _ := parse(b)
	p.body[13] = flagACK
	binary.BigEndian.PutUint32(p.body[8:], 77)
	r := checksums(t, p.reset())
	if r.flags() != flagRST || binary.BigEndian.Uint32(r.body[4:]) != 77 {
		t.Errorf("the reset has flags %#x and the number %d, want 77", r.flags(), binary.BigEndian.Uint32(r.body[4:]))
	}
}

func TestParseRefuses(t *testing.T) {
	whole := func(change func(b []byte) []byte) []byte { return change(syn(a4, b4)) }
	for _, c := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"a short header", []byte{0x45, 0, 0, 20}},
		{"another version", whole(func(b []byte) []byte { b[0] = 0x55; return b })},
		{"a header longer than the packet", whole(func(b []byte) []byte { b[0] = 0x4f; return b })},
		{"a header of no length", whole(func(b []byte) []byte { b[0] = 0x40; return b })},
		{"less than it says", whole(func(b []byte) []byte { return b[:30] })},
		{"a fragment", whole(func(b []byte) []byte { b[7] = 1; return b })},
		{"a first fragment", whole(func(b []byte) []byte { b[6] = 0x20; return b })},
		{"another transport", whole(func(b []byte) []byte { b[9] = unix.IPPROTO_SCTP; return b })},
		{"half a TCP header", build(a4, b4, unix.IPPROTO_TCP, make([]byte, 18), sumTCP)},
		{"ICMPv6 over IPv4", build(a4, b4, unix.IPPROTO_ICMPV6, make([]byte, 8), sumICMP)},
		{"IPv6 that is cut", syn(a6, b6)[:50]},
	} {
		if _, ok := parse(c.b); ok {
			t.Errorf("%s is taken for a packet", c.name)
		}
	}
}

// FuzzParse: whatever a container sends, the answers to it can be made.
func FuzzParse(f *testing.F) {
	f.Add(syn(a4, b4))
	f.Add(syn(a6, b6))
	f.Add(build(a4, b4, unix.IPPROTO_UDP, make([]byte, headerUDP), 6))
	f.Add(build(a6, b6, unix.IPPROTO_ICMPV6, []byte{echo6, 0, 0, 0, 0, 1, 0, 1}, sumICMP))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parse(b)
		if !ok {
			return
		}
		if len(p.all) > len(b) || len(p.body) > len(p.all) {
			t.Fatal("there is more in it than was given")
		}
		for _, answer := range [][]byte{p.unreachable(noPort), tcpReset(p)} {
			if answer == nil {
				continue
			}
			if back, ok := parse(answer); !ok || back.to != p.from || back.from != p.to {
				t.Errorf("the answer % x is none to % x", answer, b)
			}
		}
	})
}

func tcpReset(p packet) []byte {
	if p.protocol != unix.IPPROTO_TCP {
		return nil
	}
	_ = p.tuple()
	return p.reset()
}

func TestLimits(t *testing.T) {
	r := &Relay{open: map[netip.Addr]*usage{}, limits: usage{connections: 4, calls: 3, flows: 2}}
	r.Together(a4, a6)
	var last *usage
	for i, c := range []struct {
		who   netip.Addr
		kinds []kind
		want  bool
	}{
		{a4, []kind{connections, calls}, true},
		{a6, []kind{connections}, true},         // the same container's
		{a4, []kind{connections, calls}, false}, // half of them
		{b4, []kind{connections, calls}, true},
		{b4, []kind{connections}, true},
		{b6, []kind{connections}, false}, // there are no more
		{b6, []kind{calls}, true},
		{b4, []kind{calls}, false}, // likewise
		{a6, []kind{flows}, true},
		{a4, []kind{flows}, false},
	} {
		u := r.enter(c.who, c.kinds...)
		if (u != nil) != c.want {
			t.Errorf("%d: %s may begin another one: %v, want %v", i, c.who, u != nil, c.want)
		}
		if i == 0 {
			last = u
		}
	}
	r.leave(last, connections, calls)
	if r.enter(b6, connections) == nil {
		t.Error("what has ended makes no room")
	}
	r.Forget(a4)
	if u := r.enter(a4, flows); u == nil || u == last {
		t.Error("whoever has the address next has what the one before had")
	}
}

// What stands for an address of IPv4 in IPv6, or for the host alone, leads nowhere.
func TestTarget(t *testing.T) {
	for at, want := range map[string]string{
		"198.18.255.1": "127.0.0.1", "fd5c:1f00::1": "::1", "192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1",
		"127.0.0.1": "", "127.9.9.9": "", "::1": "", "0.0.0.0": "", "::": "", "169.254.1.1": "", "fe80::1": "", "224.0.0.1": "", "ff02::1": "", "255.255.255.255": "",
		"::ffff:127.0.0.1": "", "::ffff:198.18.255.1": "", "::ffff:192.0.2.1": "",
	} {
		got, ok := Target(netip.AddrPortFrom(netip.MustParseAddr(at), 80))
		if ok != (want != "") || ok && got.Addr().String() != want {
			t.Errorf("%s leads to %s, %v; want %q", at, got, ok, want)
		}
	}
}

// A SYN is put back without what it carries: it is kept for long, and its length is the container's choice.
func TestBare(t *testing.T) {
	for _, c := range []struct{ from, to netip.Addr }{{a4, b4}, {a6, b6}} {
		p, _ := parse(syn(c.from, c.to))
		p.body = append(append(slices.Clone(p.body), 1, 1, 1, 0), bytes.Repeat([]byte("x"), 1000)...)
		p.body[12] = (headerTCP + 4) / 4 << 4
		got := checksums(t, p.bare())
		if len(got.body) != headerTCP+4 || got.tuple() != p.tuple() || got.flags() != flagSYN {
			t.Errorf("%d bytes of %v are put back", len(got.body), got.tuple())
		}
		p.body[12] = 15 << 4
		p.body = p.body[:headerTCP]
		if p.header() != nil {
			t.Error("a header that is cut is taken for one")
		}
	}
}

// Fragments become the packet that they are of, those of two senders beside each other; one that has lost some does not.
func TestPieces(t *testing.T) {
	cut := func(from, to netip.Addr, size int) (whole []byte, list [][]byte) {
		whole = build(from, to, unix.IPPROTO_UDP, bytes.Repeat([]byte{1, 2, 3}, 1000), 6)
		head := header4
		if from.Is6() {
			head = header6
		}
		for body, at := whole[head:], 0; at < len(body); at += size {
			part := body[at:min(at+size, len(body))]
			more := at+size < len(body)
			b := slices.Clone(whole[:head])
			if from.Is4() {
				binary.BigEndian.PutUint16(b[2:], uint16(head+len(part)))
				binary.BigEndian.PutUint16(b[6:], uint16(at/8))
				if more {
					b[6] |= 0x20
				}
			} else {
				binary.BigEndian.PutUint16(b[4:], uint16(headerFragment+len(part)))
				extension := []byte{b[6], 0, byte(at >> 8), byte(at), 0, 0, 0, 9}
				if more {
					extension[3] |= 1
				}
				b[6] = unix.IPPROTO_FRAGMENT
				b = append(b, extension...)
			}
			list = append(list, append(b, part...))
		}
		return whole, list
	}
	s := pieces{}
	whole4, list4 := cut(a4, b4, 1000)
	whole6, list6 := cut(a6, b6, 1000)
	if got := s.whole(whole4); !bytes.Equal(got, whole4) {
		t.Error("what is whole is not let through")
	}
	for i := range list4 {
		for _, c := range []struct{ piece, whole []byte }{{list4[i], whole4}, {list6[i], whole6}} {
			got := s.whole(slices.Clone(c.piece))
			if last := i == len(list4)-1; (got != nil) != last || last && !bytes.Equal(got[header4:], c.whole[header4:]) {
				t.Errorf("fragment %d makes %d bytes, of %d", i, len(got), len(c.whole))
			}
		}
	}
	for i, f := range list4 {
		if i != 1 && s.whole(f) != nil {
			t.Error("a packet is whole that is not")
		}
	}
	if len(s) != 0 {
		t.Errorf("%d packets are waited for", len(s))
	}
}

func FuzzPieces(f *testing.F) {
	f.Add(syn(a4, b4), syn(a6, b6))
	f.Add([]byte{0x45, 0, 0, 28, 0, 1, 0x20, 0, 64, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{0x45, 0, 0, 24, 0, 1, 0, 1, 64, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := pieces{}
		for _, b := range [][]byte{first, second} {
			if got := s.whole(b); len(got) > max(maxPacket, len(b)) {
				t.Errorf("%d bytes", len(got))
			}
		}
	})
}
