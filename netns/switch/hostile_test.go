package netswitch

// What containers do that mean harm, or are unlucky, and what is left of them.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// from connects the container from a port of its choice.
func (w *site) from(t *testing.T, port int, at netip.AddrPort) (conn *net.TCPConn, err error) {
	t.Helper()
	w.inside.Do(t, func() error {
		c, dialErr := (&net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 10 * time.Second}).Dial("tcp", at.String())
		if err = dialErr; err == nil {
			conn = c.(*net.TCPConn)
			t.Cleanup(func() { _ = conn.Close() }) // mostly closed already
		}
		return nil
	})
	return conn, err
}

// publish publishes a port of the container on all of the host's addresses.
func (w *site) publish(t *testing.T, port plug.Port) *publication {
	t.Helper()
	socket, err := plug.Bind(port)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.guest.publish(port, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// retransmitted is how many segments of a connection were sent again: those that waited were lost.
func retransmitted(t *testing.T, c *net.TCPConn) (n uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		if err != nil {
			t.Error(err)
			return
		}
		n = info.Total_retrans
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// serve takes connections on the host's loopback, and hands them on.
func serve(t *testing.T, at string) (port int, taken <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // at the end of the test
	c := make(chan net.Conn, 10000)
	go func() {
		defer close(c)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c <- conn
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, c
}

// The host's loopback has one address, which the filter guards. Written as one of IPv6 it is not the same.
func TestLoopbackIsShutWhateverItIsCalled(t *testing.T) {
	w := attach(t, begin(t, "relay").hub, 3, false)
	port, taken := serve(t, "127.0.0.1:0")
	_, taken6 := serve(t, fmt.Sprintf("[::1]:%d", port))
	for i, at := range []string{"::ffff:198.18.255.1", "::ffff:127.0.0.1", "198.18.255.1", "127.0.0.1", "fd5c:1f00::1", "::1", "::127.0.0.1", "198.18.255.2", "0.0.0.0"} {
		w.frames(t, w.frame(netip.MustParseAddr(at), unix.IPPROTO_TCP, segment(uint16(4000+i), uint16(port), 1, 0, 2), 16))
	}
	// What comes after them goes out, so they have been seen to.
	own := netlinkHere(t)
	up(t, own, "10.99.0.6/32")
	outer, arrived := serve(t, "10.99.0.6:0")
	w.dialAt(t, netip.AddrPortFrom(netip.MustParseAddr("10.99.0.6"), uint16(outer)))
	<-arrived
	time.Sleep(100 * time.Millisecond)
	select {
	case c := <-taken:
		t.Errorf("the host's loopback is reached, from %s", c.RemoteAddr())
	case c := <-taken6:
		t.Errorf("the host's loopback is reached, from %s", c.RemoteAddr())
	default:
	}
}

// A port that has just been in use is of use again, whoever has closed first: the one that begins must not wait for the next try.
func TestPortsAreOfUseAgain(t *testing.T) {
	w := begin(t, "relay")
	for _, c := range []struct {
		at      string
		gateway netip.Addr
	}{{"127.0.0.1:0", relay.Gateway4}, {"[::1]:0", relay.Gateway6}} {
		port, taken := serve(t, c.at)
		for i := range 3 {
			conn, err := w.from(t, 4444, netip.AddrPortFrom(c.gateway, uint16(port)))
			if err != nil {
				t.Fatalf("%s: connection %d: %v", c.gateway, i, err)
			}
			if n := retransmitted(t, conn); n != 0 {
				t.Errorf("%s: connection %d was tried %d times more", c.gateway, i, n)
			}
			_ = (<-taken).Close() // the host first: the container's kernel remembers nothing
			if _, err := io.ReadAll(conn); err != nil {
				t.Error(err)
			}
			_ = conn.Close() // likewise
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Whoever gives up while the host is asked, and asks again from the same port, gets the connection that it asks for then.
func TestGivenUpIsNotInTheWay(t *testing.T) {
	w := begin(t, "relay")
	port, taken := serve(t, "127.0.0.1:0")
	at := netip.AddrPortFrom(relay.Gateway4, uint16(port))
	w.frames(t, w.frame(relay.Gateway4, unix.IPPROTO_TCP, segment(4444, uint16(port), 12345, 0, 2), 16)) // nobody in the container knows of it
	<-taken
	time.Sleep(50 * time.Millisecond)
	conn, err := w.from(t, 4444, at)
	if err != nil {
		t.Fatal(err)
	}
	if n := retransmitted(t, conn); n != 0 {
		t.Errorf("it was tried %d times more", n)
	}
}

// Handshakes that are never finished take no room from other containers.
func TestUnfinishedHandshakes(t *testing.T) {
	for _, room := range []string{"16", "4096"} {
		t.Run(room, func(t *testing.T) {
			w := beginWith(t, "relay", func(s *space) error { return s.do(func() error { return sysctl("core/somaxconn", room) }) })
			other := attach(t, w.hub, 3, true)
			w.inside.Do(t, dropResets)
			port, _ := serve(t, "127.0.0.1:0")
			var flood [][]byte
			for i := range 6000 {
				flood = append(flood, w.frame(relay.Gateway4, unix.IPPROTO_TCP, segment(uint16(2000+i), uint16(port), 1, 0, 2), 16))
			}
			for len(flood) > 0 { // the device has a queue of 500
				w.frames(t, flood[:100]...)
				flood = flood[100:]
				time.Sleep(2 * time.Millisecond)
			}
			conn := other.dial(t, port)
			if n := retransmitted(t, conn); n != 0 {
				t.Errorf("the other container's connection was tried %d times more", n)
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
}

// dropResets keeps a container's kernel from saying that it knows nothing of a connection.
func dropResets() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "quiet"})
	chain := c.AddChain(&nftables.Chain{Name: "out", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(isProtocol(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{4}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}},
		drop(),
	)})
	return c.Flush()
}

// Handshakes of one connection over and over, finished or not, and reset at once: the switch goes on.
func TestHandshakesOverAndOver(t *testing.T) {
	w := begin(t, "relay")
	w.inside.Do(t, dropResets)
	port, taken := serve(t, "127.0.0.1:0")
	go func() {
		for c := range taken {
			_ = c.Close() // nothing comes of it: the container does not go on with the handshake
		}
	}()
	answers := w.listenTCP(t)
	var list [][]byte
	for i := range uint32(1000) {
		list = append(list, w.frame(relay.Gateway4, unix.IPPROTO_TCP, segment(4444, uint16(port), i<<10, 0, 2), 16))
	}
	for i := range list {
		w.frames(t, list[i])
		select {
		case theirs := <-answers:
			w.frames(t, w.frame(relay.Gateway4, unix.IPPROTO_TCP, segment(4444, uint16(port), theirs.acknowledged, theirs.sequence+1, 16), 16),
				w.frame(relay.Gateway4, unix.IPPROTO_TCP, segment(4444, uint16(port), theirs.acknowledged, theirs.sequence+1, 4), 16))
		case <-time.After(time.Millisecond):
		}
	}
	if c := w.dial(t, port); retransmitted(t, c) != 0 {
		t.Error("the next connection has to wait")
	}
}

type numbers struct{ sequence, acknowledged uint32 }

// listenTCP hears the answers to SYNs.
func (w *site) listenTCP(t *testing.T) <-chan numbers {
	t.Helper()
	var fd int
	w.inside.Do(t, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		return err
	})
	f := os.NewFile(uintptr(fd), "raw")
	t.Cleanup(func() { _ = f.Close() }) // at the end of the test
	all := make(chan numbers, 100)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := f.Read(b)
			if err != nil {
				return
			}
			if n >= 40 && b[33]&18 == 18 {
				select {
				case all <- numbers{binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])}:
				default:
				}
			}
		}
	}()
	return all
}

// Datagrams that the host's link is too slow for wait in a socket until it is full. New connections of others must not wait with them.
func TestSlowLinksDoNotHoldOthers(t *testing.T) {
	w := begin(t, "relay")
	slowLink(t, "10.98.0.1/24", "10.98.0.2")
	port, _ := serve(t, "127.0.0.1:0")
	var conn net.Conn
	w.inside.Do(t, func() (err error) { conn, err = net.Dial("udp", "10.98.0.2:1000"); return err })
	defer conn.Close() //nolint:errcheck // a socket
	// While the thread in the switch's namespace is busy the flow has no socket yet, and all of it comes the way of first datagrams.
	if err := w.hub.space.do(func() error {
		for range 8 {
			if _, err := conn.Write(bytes.Repeat([]byte("x"), 60000)); err != nil {
				return err
			}
		}
		time.Sleep(50 * time.Millisecond)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if c := w.dial(t, port); retransmitted(t, c) != 0 {
		t.Error("the connection had to wait")
	}
}

// slowLink gives the host a link of 100 kbit/s, and a neighbour on it.
func slowLink(t *testing.T, own, neighbour string) {
	t.Helper()
	h := netlinkHere(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "lan0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "lan1"}); err != nil {
		t.Fatal(err)
	}
	far, err := h.LinkByName("lan1")
	if err != nil {
		t.Fatal(err)
	}
	near, err := h.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.LinkDel(near) }) // the other end goes with it
	index := near.Attrs().Index
	err = errors.Join(h.LinkSetUp(far), h.LinkSetUp(near), address(h, near, netip.MustParsePrefix(own)),
		h.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: netip.MustParseAddr(neighbour).AsSlice(), HardwareAddr: far.Attrs().HardwareAddr}))
	if err != nil {
		t.Fatal(err)
	}
	// The buffer is in the kernel's ticks of 64 ns: 256 ms, which are two packets.
	err = h.QdiscReplace(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, Rate: 12500, Limit: 10 << 20, Buffer: 4_000_000})
	if errors.Is(err, unix.ENOENT) {
		t.Skip("this kernel has no token bucket filter (sch_tbf)")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Datagrams arrive that come in fragments, whichever of a flow they are.
func TestDatagramsInFragments(t *testing.T) {
	w := begin(t, "relay")
	narrow := func(h *netlink.Handle, name string) error {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return h.LinkSetMTU(l, 1500)
	}
	w.inside.Do(t, func() error { return narrow(netlinkHere(t), "eth0") })
	cable := w.guest.cables[0]
	if err := errors.Join(narrow(w.hub.space.link, cable.port), narrow(w.hub.space.link, cable.bridge.name)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at      string
		gateway netip.Addr
		size    int
	}{{"127.0.0.1:0", relay.Gateway4, 4000}, {"[::1]:0", relay.Gateway6, 4000}, {"127.0.0.1:0", relay.Gateway4, 65507}} {
		port := echoUDP(t, c.at)
		var conn net.Conn
		w.inside.Do(t, func() (err error) {
			conn, err = net.Dial("udp", netip.AddrPortFrom(c.gateway, uint16(port)).String())
			return err
		})
		defer conn.Close() //nolint:errcheck // a socket
		for i := range 2 {
			sent := bytes.Repeat([]byte{byte(i)}, c.size)
			if _, err := conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 65536)
			if n, err := conn.Read(got); err != nil || !bytes.Equal(got[:n], sent) {
				t.Errorf("%s: datagram %d of %d: %d bytes came back, %v", c.gateway, i, c.size, n, err)
			}
		}
	}
}

// A container that leaves a network has nothing there any more: no connections, no flows, no leave to reach the host's loopback.
func TestLeavingANetworkEndsAll(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		port, taken := serve(t, "127.0.0.1:0")
		w.dial(t, port)
		far := <-taken
		network := w.guest.cables[0].place.Network.ID
		if reply, _ := w.guest.answer(plug.Request{Op: plug.OpDetach, Network: network}, nil); reply.Error != "" {
			t.Fatal(reply.Error)
		}
		if err := far.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the host reads %v of a container that has gone, want an end", err)
		}
		next := attach(t, w.hub, 2, false)
		next.inside.Do(t, func() error {
			if c, err := net.DialTimeout("tcp", netip.AddrPortFrom(relay.Gateway4, uint16(port)).String(), time.Second); err == nil {
				t.Error("the next one with its address reaches the host's loopback")
				return c.Close()
			}
			return nil
		})
	})
}

// Networks come and go while there are clients.
func TestClientsWhileNetworksChange(t *testing.T) {
	w := begin(t, "relay")
	place := w.guest.cables[0].place
	stop := make(chan struct{})
	var clients sync.WaitGroup
	clients.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.guest.client(netip.MustParseAddrPort("127.0.0.1:1"))
			}
		}
	})
	for range 3 {
		if reply, _ := w.guest.answer(plug.Request{Op: plug.OpDetach, Network: place.Network.ID}, nil); reply.Error != "" {
			t.Fatal(reply.Error)
		}
		if reply, _ := w.guest.answer(plug.Request{Op: plug.OpConnect, Places: []plug.Place{place}}, nil); reply.Error != "" {
			t.Fatal(reply.Error)
		}
	}
	close(stop)
	clients.Wait()
}

// A container asks the name server of its own network, not those of others.
func TestNamesAreTheNetworksOwn(t *testing.T) {
	w := begin(t, "relay")
	q := new(dns.Msg).SetQuestion("anything.", dns.TypeA)
	foreign := &client{from: &net.UDPAddr{IP: net.ParseIP("10.78.0.2"), Port: 1}}
	w.guest.cables[0].bridge.names.ServeDNS(foreign, q)
	if foreign.got == nil || foreign.got.Rcode != dns.RcodeRefused {
		t.Errorf("another network's container is told %v", foreign.got)
	}
}

// Connections that were opened and dropped, in all the ways there are, leave nothing.
func TestNothingIsLeft(t *testing.T) {
	w := begin(t, "relay")
	port, taken := serve(t, "127.0.0.1:0")
	go func() {
		for i := 0; ; i++ {
			c, ok := <-taken
			if !ok {
				return
			}
			if i%3 == 0 {
				_ = c.(*net.TCPConn).SetLinger(0) // each third is reset; one that is not ends in another way, and may
			}
			go func() {
				_, _ = io.Copy(io.Discard, c) // however it ends: what is left of it is what is looked at
				_ = c.Close()                 // likewise
			}()
		}
	}()
	before := descriptors(t)
	for i := range 200 {
		c := w.dial(t, port)
		switch i % 3 {
		case 0:
			_ = c.SetLinger(0) // one that is not reset ends in another way, and may
		case 1:
			_, _ = c.Write([]byte("x")) // however it ends: what is left of it is what is looked at
		}
		_ = c.Close() // likewise
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after := descriptors(t)
		if after <= before {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d descriptors are open, before there were %d", after, before)
		}
	}
}

// descriptors is how many sockets the process has.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
