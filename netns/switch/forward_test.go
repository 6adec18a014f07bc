package netswitch

// The name servers in real namespaces, as an ordinary user: the test runs itself again in a user namespace with a network namespace that plays the host.

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/tests/inside"
)

func TestMain(m *testing.M) { inside.Main(m, unix.CLONE_NEWNET|unix.CLONE_NEWNS, nil) }

// world is a network with its name server, two containers on it, and a host with a resolv.conf of its own.
type world struct {
	*testing.T
	names *names
	space *space
	file  string
}

const (
	gateway = "10.50.0.1"
	first   = "10.50.0.2"
	second  = "10.50.0.3"
)

func newWorld(t *testing.T, internal bool) *world {
	t.Helper()
	up(t, nil, "127.0.0.1/8")
	sp, err := newSpace(nil)
	check(t, err)
	t.Cleanup(func() { close(sp.work) })
	up(t, sp.link, gateway+"/24", first+"/32", second+"/32")
	dir := t.TempDir()
	store := netns.Open(dir, dir)
	n, err := store.Create(netns.Network{Name: "back", Internal: internal, Subnets: []netns.Subnet{{Prefix: netip.MustParsePrefix("10.50.0.0/24")}}})
	check(t, err)
	for _, c := range []struct{ id, name, at string }{{"a", "web", first}, {"b", "db", second}} {
		alive, err := disk.TryLock(filepath.Join(dir, c.name), disk.Exclusive)
		check(t, err)
		t.Cleanup(func() { _ = alive.Unlock() }) // it goes with the process
		_, err = store.Attach(n, netns.Endpoint{Container: strings.Repeat(c.id, 64), Name: c.name, IPv4: netip.MustParseAddr(c.at), Alive: filepath.Join(dir, c.name)})
		check(t, err)
	}
	s, err := (&hub{space: sp, store: store, view: netns.NewView(store)}).serveNames(*n)
	check(t, err)
	t.Cleanup(s.close)
	w := &world{t, s, sp, filepath.Join(dir, "resolv.conf")}
	s.file = w.file
	return w
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// up brings up a namespace's loopback with addresses; nil is the caller's.
func up(t *testing.T, h *netlink.Handle, addresses ...string) {
	t.Helper()
	if h == nil {
		var err error
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		check(t, err)
		defer h.Close()
	}
	lo, err := h.LinkByName("lo")
	check(t, err)
	check(t, h.LinkSetUp(lo))
	for _, a := range addresses {
		check(t, address(h, lo, netip.MustParsePrefix(a)))
	}
}

// host says which resolvers the host has from now on.
func (w *world) host(servers ...string) {
	w.Helper()
	text := ""
	for _, s := range servers {
		text += "nameserver " + s + "\n"
	}
	check(w.T, disk.WriteFile(w.file, []byte(text), 0o600, disk.Volatile))
}

// own gives a container resolvers of its own.
func (w *world) own(client string, container *os.File, servers ...string) {
	w.names.use(netns.Endpoint{Container: strings.Repeat("a", 64), IPv4: netip.MustParseAddr(client)}, servers, nil, container)
}

// namespace is a container's, with a loopback interface that is up.
func namespace(t *testing.T) *os.File {
	t.Helper()
	sp, err := newSpace(nil)
	check(t, err)
	t.Cleanup(func() { close(sp.work) })
	up(t, sp.link)
	return sp.file
}

// inNamespace runs f on a thread in a namespace; nil is the caller's.
func inNamespace(t *testing.T, file *os.File, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		var err error
		if file != nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	check(t, <-done)
}

// upstream is a resolver at an address, port 53, over UDP and TCP.
func upstream(t *testing.T, in *os.File, at string, h dns.HandlerFunc) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	inNamespace(t, in, func() (err error) {
		if udp, err = net.ListenPacket("udp", at+":53"); err == nil {
			tcp, err = net.Listen("tcp", at+":53")
		}
		return err
	})
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: h}, {Listener: tcp, Handler: h}} {
		go func() { _ = server.ActivateAndServe() }() // until its socket is closed
	}
	t.Cleanup(func() { _, _ = udp.Close(), tcp.Close() })
}

// says answers every question with one text.
func says(text string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		r.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}}}
		_ = w.WriteMsg(r) // the test sees that nothing came
	}
}

func fails(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) }
}

// ask asks the network's name server as a container does.
func (w *world) ask(client, kind string, q *dns.Msg) *dns.Msg {
	w.Helper()
	var conn net.Conn
	inNamespace(w.T, w.space.file, func() (err error) {
		d := &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}
		if kind == "tcp" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(client)}
		}
		conn, err = d.DialContext(context.Background(), kind, gateway+":53")
		return err
	})
	defer conn.Close() //nolint:errcheck // a socket
	c := &dns.Client{Net: kind, Timeout: 30 * time.Second}
	r, _, err := c.ExchangeWithConn(q, &dns.Conn{Conn: conn, UDPSize: 4096})
	check(w.T, err)
	return r
}

// text is what a foreign name's TXT record says, or the code of the refusal.
func (w *world) text(client string) string {
	w.Helper()
	r := w.ask(client, "udp", new(dns.Msg).SetQuestion("foreign.example.", dns.TypeTXT))
	if len(r.Answer) == 1 {
		return r.Answer[0].(*dns.TXT).Txt[0]
	}
	return dns.RcodeToString[r.Rcode]
}

func (w *world) want(client, want string) {
	w.Helper()
	if got := w.text(client); got != want {
		w.Errorf("%s got %q, want %q", client, got, want)
	}
}

// The host's resolvers are those of the file as it is, for a network that changes under running containers.
func TestForwardNow(t *testing.T) {
	w := newWorld(t, false)
	upstream(t, nil, "127.0.0.2", says("before"))
	upstream(t, nil, "127.0.0.3", says("after"))
	w.host("127.0.0.2")
	w.want(first, "before")
	w.host("127.0.0.3")
	w.want(first, "after")
	w.host()
	w.want(first, "SERVFAIL")
	check(t, os.Remove(w.file))
	w.want(first, "SERVFAIL")
	w.host("127.0.0.2")
	w.want(first, "before")
}

// One that is dead, refuses or fails is followed by the next one; that there is no such name is an answer.
func TestForwardNext(t *testing.T) {
	w := newWorld(t, false)
	upstream(t, nil, "127.0.0.2", fails(dns.RcodeRefused))
	upstream(t, nil, "127.0.0.3", fails(dns.RcodeServerFailure))
	upstream(t, nil, "127.0.0.4", says("third"))
	upstream(t, nil, "127.0.0.5", fails(dns.RcodeNameError))
	w.host("127.0.0.77", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	w.want(first, "third")
	w.host("127.0.0.5", "127.0.0.4")
	w.want(first, "NXDOMAIN")
	w.host("127.0.0.2", "127.0.0.77")
	w.want(first, "REFUSED")
}

// A container's own resolvers (--dns): of the world, on its own loopback, and another container of its network. Its neighbour has the host's.
func TestForwardOwn(t *testing.T) {
	w := newWorld(t, false)
	w.host("127.0.0.2")
	up(t, nil, "192.0.2.1/32")
	container := namespace(t)
	upstream(t, nil, "127.0.0.2", says("host"))
	upstream(t, nil, "192.0.2.1", says("world"))
	upstream(t, container, "127.0.0.1", says("inside"))
	upstream(t, w.space.file, second, says("neighbour"))
	w.own(first, container, "192.0.2.1")
	w.want(first, "world")
	w.want(second, "host")
	w.own(first, container, "127.0.0.1")
	w.want(first, "inside")
	w.own(first, container, second)
	w.want(first, "neighbour")
	w.own(first, container, "127.0.0.9", "192.0.2.1")
	w.want(first, "world")
	w.own(first, nil)
	w.want(first, "host")
}

// An internal network asks nobody outside; a resolver on it is not outside.
func TestForwardInternal(t *testing.T) {
	w := newWorld(t, true)
	w.host("127.0.0.2")
	upstream(t, nil, "127.0.0.2", says("host"))
	upstream(t, w.space.file, second, says("neighbour"))
	w.want(first, "NXDOMAIN")
	w.own(first, namespace(t), "127.0.0.2")
	w.want(first, "SERVFAIL") // that is the container's own loopback, where nobody is
	w.own(first, nil, second)
	w.want(first, "neighbour")
}

// Large answers are cut over UDP, to what the client says that it takes, and whole over TCP; both ways the client's question reaches the resolver over its own protocol.
func TestForwardLarge(t *testing.T) {
	w := newWorld(t, false)
	w.host("127.0.0.2")
	upstream(t, nil, "127.0.0.2", func(rw dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		for range 40 {
			r.Answer = append(r.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{strings.Repeat("x", 50)}})
		}
		if rw.RemoteAddr().Network() == "udp" {
			size := dns.MinMsgSize
			if e := q.IsEdns0(); e != nil {
				size = int(e.UDPSize())
			}
			r.Truncate(size)
		}
		_ = rw.WriteMsg(r) // the test sees that nothing came
	})
	for _, c := range []struct {
		kind  string
		edns  uint16
		whole bool
	}{{"udp", 0, false}, {"udp", 1232, false}, {"udp", 4096, true}, {"tcp", 0, true}} {
		q := new(dns.Msg).SetQuestion("large.example.", dns.TypeTXT)
		if c.edns > 0 {
			q.SetEdns0(c.edns, false)
		}
		r := w.ask(first, c.kind, q)
		if r.Truncated == c.whole || (len(r.Answer) == 40) != c.whole || (r.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("%s %d: %d answers, truncated %v, EDNS %v", c.kind, c.edns, len(r.Answer), r.Truncated, r.IsEdns0())
		}
	}
}

// A resolver that sends more than the client has room for is understood all the same: the client hears that there is more.
func TestForwardMoreThanAsked(t *testing.T) {
	w := newWorld(t, false)
	w.host("127.0.0.2")
	upstream(t, nil, "127.0.0.2", func(rw dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		for range 40 {
			r.Answer = append(r.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{strings.Repeat("x", 50)}})
		}
		_ = rw.WriteMsg(r) // the test sees that nothing came
	})
	for _, size := range []uint16{0, 1232} {
		q := new(dns.Msg).SetQuestion("large.example.", dns.TypeTXT)
		if size > 0 {
			q.SetEdns0(size, false)
		}
		if r := w.ask(first, "udp", q); !r.Truncated || r.Rcode != dns.RcodeSuccess || len(r.Answer) == 0 {
			t.Errorf("with room for %d: %s, truncated %v, %d answers", size, dns.RcodeToString[r.Rcode], r.Truncated, len(r.Answer))
		}
	}
}

// Questions that nobody answers do not pile up, and do not keep the network's own names from being answered.
func TestForwardFull(t *testing.T) {
	w := newWorld(t, false)
	w.host("127.0.0.2")
	upstream(t, nil, "127.0.0.2", says("host"))
	for range maxForwarded {
		w.names.busy <- struct{}{}
	}
	w.want(first, "SERVFAIL")
	if r := w.ask(first, "udp", new(dns.Msg).SetQuestion("db.", dns.TypeA)); len(r.Answer) != 1 {
		t.Errorf("the network's own name: %v", r)
	}
	<-w.names.busy
	w.want(first, "host")
	w.want(first, "host")
}

// FuzzServeDNS: whatever a container sends, there is at most one answer, which can be packed and is to the question. Nobody is asked: the host has no resolvers.
func FuzzServeDNS(f *testing.F) {
	for _, name := range []string{"web.", "2.0.50.10.in-addr.arpa.", "example.org.", "db.back."} {
		for _, kind := range []uint16{dns.TypeA, dns.TypePTR, dns.TypeANY} {
			q := new(dns.Msg).SetQuestion(name, kind)
			q.SetEdns0(1232, true)
			data, err := q.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, true)
			f.Add(data[:len(data)-3], false)
		}
	}
	f.Add([]byte{0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}, true)
	dir := f.TempDir()
	store := netns.Open(dir, dir)
	n, err := store.Create(netns.Network{Name: "back", Subnets: []netns.Subnet{{Prefix: netip.MustParsePrefix("10.50.0.0/24")}}})
	if err != nil {
		f.Fatal(err)
	}
	alive, err := disk.TryLock(filepath.Join(dir, "alive"), disk.Exclusive)
	if err != nil {
		f.Fatal(err)
	}
	defer alive.Unlock()
	_, err = store.Attach(n, netns.Endpoint{Container: strings.Repeat("a", 64), Name: strings.Repeat("long", 30), Aliases: []string{"web"}, IPv4: netip.MustParseAddr(first), Alive: filepath.Join(dir, "alive")})
	if err != nil {
		f.Fatal(err)
	}
	s := newNames(netns.NewView(store), *n)
	s.file = filepath.Join(dir, "none")
	f.Fuzz(func(t *testing.T, data []byte, tcp bool) {
		q := new(dns.Msg)
		if q.Unpack(data) != nil {
			return
		}
		w := &client{from: &net.UDPAddr{IP: net.ParseIP(first)}}
		if tcp {
			w.from = &net.TCPAddr{IP: net.ParseIP(first)}
		}
		s.ServeDNS(w, q)
		if w.got == nil || w.got.Id != q.Id || !w.got.Response || w.failed != nil {
			t.Errorf("%v: got %v, %v", q, w.got, w.failed)
		}
	})
}
