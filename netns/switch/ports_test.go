package netswitch

// Published ports, with each way out.

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
)

// A container sees its clients by their own addresses, those of the host's loopback as its gateway.
func TestPublishedPortsKeepTheClient(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		own := netlinkHere(t)
		up(t, own, "10.99.0.5/32", "10.99.0.6/32", "fd99::5/128", "fd99::6/128")
		awaitAddress(own, netip.MustParseAddr("fd99::5"))
		awaitAddress(own, netip.MustParseAddr("fd99::6"))
		w.sayClients(t, "", ":80")
		for _, protocol := range []string{"tcp", "udp"} {
			port := plug.Port{Container: 80, Protocol: protocol}
			p := w.publish(t, port)
			for _, c := range []struct{ from, to, seen string }{
				{"10.99.0.5", "10.99.0.5", "10.99.0.5"},
				{"fd99::5", "fd99::5", "fd99::5"},
				{"10.99.0.5", "10.99.0.6", "10.99.0.5"}, // who is answered from another address than it asked takes no notice
				{"fd99::5", "fd99::6", "fd99::5"},
				{"127.0.0.1", "127.0.0.9", "10.77.0.1"},
				{"127.0.0.1", "127.0.0.1", "10.77.0.1"},
				{"::1", "::1", "fd77::1"},
			} {
				if protocol == "udp" && w.hub.relay == nil && netip.MustParseAddr(c.from).IsLoopback() {
					c.seen = map[bool]string{true: "198.18.254.1", false: "fd5c:1f00:0:1::1"}[netip.MustParseAddr(c.from).Is4()]
				}
				seen, err := visit(protocol, c.from, netip.AddrPortFrom(netip.MustParseAddr(c.to), p.port.Host))
				if err != nil || seen != c.seen {
					t.Errorf("%s from %s: the container sees %s, want %s; %v", protocol, c.from, seen, c.seen, err)
				}
			}
		}
	})
}

// A container of IPv6 alone is reached by clients of IPv4 too, who are its gateway.
func TestPublishedPortsOfOneFamily(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		up(t, netlinkHere(t), "10.99.0.5/32")
		w.guest.mu.Lock()
		w.guest.cables[0].place.Endpoint.IPv4 = netip.Addr{}
		w.guest.mu.Unlock()
		w.sayClients(t, "6", "[::]:80")
		for _, protocol := range []string{"tcp", "udp"} {
			p := w.publish(t, plug.Port{Container: 80, Protocol: protocol})
			for _, client := range []string{"127.0.0.1", "10.99.0.5", "::1"} {
				want := "fd77::1"
				if protocol == "udp" && w.hub.relay == nil {
					want = "fd5c:1f00:0:1::1"
				}
				seen, err := visit(protocol, client, netip.AddrPortFrom(netip.MustParseAddr(client), p.port.Host))
				if err != nil || seen != want {
					t.Errorf("%s from %s: the container sees %s, want %s; %v", protocol, client, seen, want, err)
				}
			}
		}
	})
}

// sayClients has the container tell its clients of TCP and UDP who they are, until the end of the test. family is "6" for IPv6 alone.
func (w *site) sayClients(t *testing.T, family, at string) {
	t.Helper()
	var server net.Listener
	var datagrams net.PacketConn
	w.inside.Do(t, func() (err error) {
		if server, err = net.Listen("tcp"+family, at); err == nil {
			datagrams, err = net.ListenPacket("udp"+family, at)
		}
		return err
	})
	t.Cleanup(func() { _, _ = server.Close(), datagrams.Close() }) // at the end of the test
	go sayClients(server)
	go answerClients(datagrams)
}

// sayClients tells each client of a listener who it is, until the listener is closed.
func sayClients(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = fmt.Fprint(c, c.RemoteAddr()) // a test that does not get it fails
		_ = c.Close()                        // likewise
	}
}

// answerClients does so for datagrams.
func answerClients(c net.PacketConn) {
	b := make([]byte, 10)
	for {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo([]byte(from.String()), from) // a test that does not get it fails
	}
}

func netlinkHere(t *testing.T) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// visit returns whom the container says it sees.
func visit(protocol, from string, to netip.AddrPort) (string, error) {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	if protocol == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial(protocol, to.String())
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // a socket
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if protocol == "udp" {
		if _, err := c.Write([]byte("who")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return "", err
	}
	seen, err := netip.ParseAddrPort(string(b[:n]))
	return seen.Addr().Unmap().String(), err
}

// The ports of connections that have ended do not run out: clients of the host's loopback share the gateway's address.
func TestPublishedPortsDoNotRunOut(t *testing.T) {
	w := begin(t, "relay")
	if err := w.hub.space.do(func() error { return sysctl("ipv4/ip_local_port_range", "40000 40049") }); err != nil {
		t.Fatal(err)
	}
	var server net.Listener
	w.inside.Do(t, func() (err error) { server, err = net.Listen("tcp", ":80"); return err })
	defer server.Close() //nolint:errcheck // a socket
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // the client ends it
				_ = c.Close()        // likewise
			}()
		}
	}()
	p := w.publish(t, plug.Port{Container: 80, Protocol: "tcp"})
	for i := range 200 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port.Host))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		_ = c.Close() // the client first
	}
}

// The clients of a port are so many and no more, whoever they say they are: the descriptors are everybody's.
func TestPublishedPortsHaveALimit(t *testing.T) {
	w := begin(t, "relay")
	p := w.publish(t, plug.Port{Container: 80, Protocol: "udp"})
	p.mu.Lock()
	p.most = 3
	p.mu.Unlock()
	before := descriptors(t)
	for range 10 {
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p.port.Host))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // a socket
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if n := descriptors(t) - before - 10; n > 3 {
		t.Errorf("ten clients have %d sockets of the switch's, want 3", n)
	}
}

// Whoever comes to a published port of an internal network is answered, as is its gateway: it is all that a container there can answer.
func TestPublishedOnAnInternalNetwork(t *testing.T) {
	w := begin(t, "relay")
	w.guest.cables[0].bridge.network.Internal = true
	w.inside.Do(t, func() error {
		route := &netlink.Route{Dst: everything(w.four)}
		return netlink.RouteDel(route)
	})
	var server net.Listener
	w.inside.Do(t, func() (err error) { server, err = net.Listen("tcp", ":80"); return err })
	defer server.Close() //nolint:errcheck // a socket
	go sayClients(server)
	up(t, netlinkHere(t), "10.99.0.7/32")
	p := w.publish(t, plug.Port{Container: 80, Protocol: "tcp"})
	if seen, err := visit("tcp", "10.99.0.7", netip.AddrPortFrom(netip.MustParseAddr("10.99.0.7"), p.port.Host)); err != nil || seen != "10.77.0.1" {
		t.Errorf("the container sees %s, %v", seen, err)
	}
}
