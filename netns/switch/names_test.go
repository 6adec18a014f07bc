package netswitch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/miekg/dns"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/storage/disk"
)

// client is whoever asks, as the server sees him.
type client struct {
	dns.ResponseWriter
	from   net.Addr
	got    *dns.Msg
	size   int
	failed error
}

func (c *client) RemoteAddr() net.Addr { return c.from }

func (c *client) WriteMsg(m *dns.Msg) error {
	packed, err := m.Pack()
	c.got, c.size = new(dns.Msg), len(packed)
	if err == nil {
		err = c.got.Unpack(packed)
	}
	c.failed = errors.Join(c.failed, err)
	return err
}

// TestReplyFits holds answers to what the client takes: 512 bytes, or what it says by EDNS, and over TCP everything.
func TestReplyFits(t *testing.T) {
	udp, tcp := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2)}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2)}
	for _, c := range []struct {
		name string
		from net.Addr
		edns uint16
		size int
		cut  bool
	}{{"plain", udp, 0, 512, true}, {"extended", udp, 1232, 1232, true}, {"large", udp, 4096, 4096, false}, {"greedy", udp, 65000, 4096, false}, {"tcp", tcp, 0, 65535, false}} {
		q := new(dns.Msg).SetQuestion("many.example.", dns.TypeA)
		if c.edns > 0 {
			q.SetEdns0(c.edns, false)
		}
		r := new(dns.Msg).SetReply(q)
		for i := range 100 {
			r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: "many.example.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(10, 0, 1, byte(i))})
		}
		r.Id = 1 // of the forwarded question
		w := &client{from: c.from}
		reply(w, q, r)
		if w.got.Id != q.Id || w.got.Truncated != c.cut || w.size > c.size || !c.cut && len(w.got.Answer) != 100 {
			t.Errorf("%s: %d answers, %d bytes, truncated %v", c.name, len(w.got.Answer), w.size, w.got.Truncated)
		}
	}
}

func TestLookup(t *testing.T) {
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	user := netns.Network{ID: "1", Name: "backend", Driver: netns.DriverBridge}
	file := filepath.Join(t.TempDir(), "alive")
	alive, err := disk.TryLock(file, disk.Exclusive)
	check(t, err)
	defer alive.Unlock()
	book := netns.NewBook([]*netns.Endpoint{
		{Alive: file, Container: "aaaaaaaaaaaa1", Name: "web1", Aliases: []string{"web", "db.backend"}, IPv4: at(2)},
		{Alive: file, Container: "bbbbbbbbbbbb2", Name: "web2", Aliases: []string{"Web"}, IPv4: at(3), IPv6: netip.MustParseAddr("fd00::3"), Links: map[string]string{"first": "aaaaaaaaaaaa1"}},
		{Alive: file + ".none", Container: "cccccccccccc3", Name: "dead", Aliases: []string{"web"}, IPv4: at(4)},
	})
	for _, c := range []struct {
		name    string
		kind    uint16
		from    int
		want    int
		foreign bool
	}{
		{"web1.", dns.TypeA, 3, 1, false},
		{"WEB1.", dns.TypeA, 3, 1, false},
		{"web.", dns.TypeA, 3, 2, false},
		{"web1.backend.", dns.TypeA, 3, 1, false},
		{"web1.", dns.TypeAAAA, 3, 0, false},
		{"web2.", dns.TypeAAAA, 2, 1, false},
		{"db.backend.", dns.TypeA, 3, 1, false},
		{"db.backend.backend.", dns.TypeA, 3, 1, false},
		{"db.", dns.TypeA, 3, 0, true},
		{"dead.", dns.TypeA, 3, 0, true},
		{"4.0.0.10.in-addr.arpa.", dns.TypePTR, 3, 0, true},
		{"3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.IP6.arpa.", dns.TypePTR, 2, 1, false},
		{"0.10.in-addr.arpa.", dns.TypePTR, 3, 0, true},
		{"a.0.0.10.in-addr.arpa.", dns.TypePTR, 3, 0, true},
		{"bbbbbbbbbbbb.", dns.TypeA, 2, 1, false},
		{"first.", dns.TypeA, 3, 1, false},
		{"first.", dns.TypeA, 2, 0, true},
		{"example.com.", dns.TypeA, 2, 0, true},
		{"2.0.0.10.in-addr.arpa.", dns.TypePTR, 3, 1, false},
		{"9.0.0.10.in-addr.arpa.", dns.TypePTR, 3, 0, true},
	} {
		r := lookup(new(dns.Msg).SetQuestion(c.name, c.kind), user, book, book.At(at(c.from)))
		if (r == nil) != c.foreign || r != nil && len(r.Answer) != c.want {
			t.Errorf("%s: %v", c.name, fmt.Sprint(r))
		}
	}
	if r := lookup(new(dns.Msg).SetQuestion("web1.", dns.TypeA), netns.Network{ID: "0", Name: netns.Bridge}, book, book.At(at(3))); r != nil {
		t.Error("the default network has names")
	}
}

// What a container has in its /etc/hosts its name server tells it, and nobody else, for as long as it is there.
func TestHostTable(t *testing.T) {
	at, other := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	s := newNames(nil, netns.Network{})
	e := netns.Endpoint{IPv4: at}
	s.use(e, nil, map[string][]netip.Addr{"host.docker.internal": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}, nil)
	for _, c := range []struct {
		client netip.Addr
		name   string
		kind   uint16
		want   int // -1 is no answer of ours
	}{
		{at, "Host.Docker.Internal.", dns.TypeA, 1},
		{at, "host.docker.internal.", dns.TypeAAAA, 1},
		{at, "host.docker.internal.", dns.TypeTXT, 0},
		{at, "docker.internal.", dns.TypeA, -1},
		{other, "host.docker.internal.", dns.TypeA, -1},
	} {
		r := s.host(new(dns.Msg).SetQuestion(c.name, c.kind), c.client)
		if (r == nil) != (c.want < 0) || r != nil && len(r.Answer) != c.want {
			t.Errorf("%s of %s: %v", c.name, c.client, r)
		}
	}
	s.use(e, nil, nil, nil)
	if r := s.host(new(dns.Msg).SetQuestion("host.docker.internal.", dns.TypeA), at); r != nil {
		t.Errorf("a container that has gone is told %v", r)
	}
}
