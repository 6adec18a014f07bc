package netswitch

// The ways out in real namespaces, as an ordinary user: the process's own network namespace plays the host (TestMain), the switch has a second one, the container a third.

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// insider is a thread in a network namespace of its own.
type insider chan func()

func newInsider(t *testing.T) (i insider, namespace *os.File) {
	t.Helper()
	i = make(insider)
	go func() {
		runtime.LockOSThread() // and never unlocked
		for f := range i {
			f()
		}
	}()
	t.Cleanup(func() { close(i) })
	i.do(t, func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			namespace, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
		return err
	})
	return i, namespace
}

func (i insider) do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	i <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// site is a host with a switch and a container.
type site struct {
	hub       *hub
	guest     *guest
	inside    insider // the container
	four, six netip.Addr
	raw       *os.File // sends frames (hostile_test.go)
}

// eachWay runs a test with each way out.
func eachWay(t *testing.T, f func(t *testing.T, w *site)) {
	t.Helper()
	for _, name := range []string{"relay", plug.UplinkStack} {
		t.Run(name, func(t *testing.T) { f(t, begin(t, name)) })
		t.Run(name+" without TUN", func(t *testing.T) {
			if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			w := begin(t, name)
			if err := unix.Unmount("/dev/net", unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			f(t, w)
		})
	}
}

// begin makes a site whose container may reach the host's loopback.
func begin(t *testing.T, name string) *site {
	t.Helper()
	return beginWith(t, name, nil)
}

// beginWith does something in the switch's namespace first.
func beginWith(t *testing.T, name string, first func(*space) error) *site {
	t.Helper()
	t.Setenv(plug.UplinkVariable, name)
	up(t, nil)
	space, err := newSpace(nil)
	if err != nil {
		t.Fatal(err)
	}
	if first != nil {
		if err := first(space); err != nil {
			t.Fatal(err)
		}
	}
	h := &hub{store: netns.Open(t.TempDir(), t.TempDir()), space: space, bridges: map[string]*bridge{}, gone: make(chan struct{})}
	if err := h.setUp(); err != nil {
		t.Fatal(err)
	}
	if (h.relay != nil) != (name == "relay") {
		t.Fatalf("the way out is not the %s", name)
	}
	t.Cleanup(func() {
		switch way := h.way.(type) {
		case interface{ Close() error }:
			if err := way.Close(); err != nil {
				t.Error(err)
			}
		case interface{ Close() }:
			way.Close()
		}
	})
	return attach(t, h, 2, true)
}

// attach connects one more container, the n-th address of the network.
func attach(t *testing.T, h *hub, n byte, loopback bool) *site {
	t.Helper()
	w := &site{hub: h, guest: &guest{hub: h}, four: netip.AddrFrom4([4]byte{10, 77, 0, n}), six: netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: n})}
	var namespace *os.File
	w.inside, namespace = newInsider(t)
	network := netns.Network{ID: strings.Repeat("7", 64), Name: "seven", Driver: netns.DriverBridge, IPv6: true, Subnets: []netns.Subnet{
		{Prefix: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1")},
		{Prefix: netip.MustParsePrefix("fd77::/64"), Gateway: netip.MustParseAddr("fd77::1")},
	}}
	place := plug.Place{Network: network, Default: true, Endpoint: netns.Endpoint{
		ID: fmt.Sprintf("%064x", n), Network: network.ID, IPv4: w.four, IPv6: w.six, MAC: fmt.Sprintf("02:42:0a:4d:00:%02x", n), Iface: "eth0",
	}}
	place.Endpoint.ID = fmt.Sprintf("e%02x", n) + place.Endpoint.ID[3:]
	if reply, files := w.guest.answer(plug.Request{Op: plug.OpAttach, Places: []plug.Place{place}, Loopback: loopback}, []*os.File{namespace}); len(files) == 0 {
		t.Fatalf("the container cannot be attached: %s", reply.Error)
	}
	t.Cleanup(w.guest.leave)
	return w
}

// dial connects the container to the host's loopback, by the gateway's address.
func (w *site) dial(t *testing.T, port int) *net.TCPConn {
	t.Helper()
	return w.dialAt(t, netip.AddrPortFrom(relay.Gateway4, uint16(port)))
}

func (w *site) dialAt(t *testing.T, at netip.AddrPort) *net.TCPConn {
	t.Helper()
	var conn net.Conn
	w.inside.do(t, func() (err error) {
		conn, err = net.DialTimeout("tcp", at.String(), 10*time.Second)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() }) // mostly closed already
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// host listens on the host's loopback and hands one connection to f, the error of which comes back.
func host(t *testing.T, f func(*net.TCPConn) error) (port int, result <-chan error) {
	t.Helper()
	return hostAt(t, "127.0.0.1:0", f)
}

func hostAt(t *testing.T, at string, f func(*net.TCPConn) error) (port int, result <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // at the end of the test
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = errors.Join(conn.SetDeadline(time.Now().Add(time.Minute)), f(conn.(*net.TCPConn)))
		}
		done <- err
	}()
	return l.Addr().(*net.TCPAddr).Port, done
}

func TestDownloadArrivesByteForByte(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		data := make([]byte, 16<<20)
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a pattern, no secret
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		port, sent := host(t, func(conn *net.TCPConn) error {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(400<<10))
				if _, err := conn.Write(rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
				if random.IntN(8) == 0 {
					time.Sleep(20 * time.Millisecond)
				}
			}
			return conn.Close()
		})
		got, err := io.ReadAll(w.dial(t, port))
		if err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(data))
		}
	})
}

// A stream that was cut must not look like one that has ended: whoever downloads would take a part for the whole.
func TestResetOfTheHostReachesTheContainer(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		reset := make(chan struct{})
		port, _ := host(t, func(conn *net.TCPConn) error {
			_, err := conn.Write(make([]byte, 10000))
			<-reset
			return errors.Join(err, conn.SetLinger(0), conn.Close())
		})
		conn := w.dial(t, port)
		if _, err := io.ReadFull(conn, make([]byte, 10000)); err != nil {
			t.Fatal(err)
		}
		close(reset)
		if _, err := io.ReadAll(conn); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the container reads %v, want %v", err, unix.ECONNRESET)
		}
	})
}

func TestResetOfTheContainerReachesTheHost(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		port, got := host(t, func(conn *net.TCPConn) error { _, err := io.ReadAll(conn); return err })
		conn := w.dial(t, port)
		_, err := conn.Write([]byte("begun"))
		if err = errors.Join(err, conn.SetLinger(0), conn.Close()); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the host reads %v, want %v", err, unix.ECONNRESET)
		}
	})
}

func TestHalfCloseIsCarriedBothWays(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		question, answer := bytes.Repeat([]byte("q"), 300<<10), bytes.Repeat([]byte("a"), 700<<10)
		port, served := host(t, func(conn *net.TCPConn) error {
			got, err := io.ReadAll(conn) // ends only when the client's end of sending arrives
			if err == nil && !bytes.Equal(got, question) {
				err = fmt.Errorf("%d bytes of the question arrived, of %d", len(got), len(question))
			}
			_, writeErr := conn.Write(answer)
			return errors.Join(err, writeErr, conn.Close())
		})
		conn := w.dial(t, port)
		if _, err := conn.Write(question); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err = errors.Join(err, <-served); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, answer) {
			t.Errorf("%d bytes of the answer arrived, of %d", len(got), len(answer))
		}
	})
}

func TestRefusedIsRefused(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		w.inside.do(t, func() error {
			conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", relay.Gateway4, port), 10*time.Second)
			if err == nil {
				return errors.Join(errors.New("connected, where nobody listens"), conn.Close())
			}
			if !errors.Is(err, unix.ECONNREFUSED) {
				return fmt.Errorf("%w, want %w", err, unix.ECONNREFUSED)
			}
			return nil
		})
	})
}

func TestIPv6ReachesTheHost(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		port, served := hostAt(t, "[::1]:0", func(conn *net.TCPConn) error {
			_, err := conn.Write([]byte("six"))
			return errors.Join(err, conn.Close())
		})
		got, err := io.ReadAll(w.dialAt(t, netip.AddrPortFrom(relay.Gateway6, uint16(port))))
		if err = errors.Join(err, <-served); err != nil || string(got) != "six" {
			t.Errorf("%q arrived, %v", got, err)
		}
	})
}

// A connection of before, which nobody knows any more, must not leave the container waiting.
func TestForgottenConnectionsAreReset(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		port, _ := host(t, func(conn *net.TCPConn) error { _, err := io.ReadAll(conn); return err })
		conn := w.dial(t, port)
		// A segment in the middle of nothing: a connection whose ports the kernel of the container alone has made up (TCP_REPAIR, tcp(7)).
		var fd int
		w.inside.do(t, func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			if err = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, 1); err == nil {
				err = unix.Connect(fd, relay.Sockaddr(netip.AddrPortFrom(relay.Gateway4, uint16(port))))
			}
			return errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, 0))
		})
		f := os.NewFile(uintptr(fd), "made up")
		defer f.Close()
		if _, err := f.WriteString("to nobody"); err != nil && !errors.Is(err, unix.ECONNRESET) { // the kernel has asked how wide the window is
			t.Fatal(err)
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
			t.Fatal(err)
		}
		if n, err := f.Read(make([]byte, 1)); n != 0 || errors.Is(err, unix.EAGAIN) {
			t.Errorf("the container reads %d bytes, %v; want the end", n, err)
		}
		if _, err := conn.Write([]byte("still there")); err != nil {
			t.Error(err)
		}
	})
}

// echoUDP is a server of UDP on the host.
func echoUDP(t *testing.T, at string) int {
	t.Helper()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // at the end of the test
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from) // one that is lost fails the test
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func TestDatagramsOfAllSizesComeBack(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		for _, c := range []struct {
			at      string
			gateway netip.Addr
		}{{"127.0.0.1:0", relay.Gateway4}, {"[::1]:0", relay.Gateway6}} {
			port := echoUDP(t, c.at)
			var conn net.Conn
			w.inside.do(t, func() (err error) {
				conn, err = net.Dial("udp", netip.AddrPortFrom(c.gateway, uint16(port)).String())
				return err
			})
			defer conn.Close() //nolint:errcheck // a socket
			for _, size := range []int{0, 1, 1400, 9000, 65000} {
				sent := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := conn.Write(sent); err != nil {
					t.Fatal(err)
				}
				if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 65536)
				n, err := conn.Read(got)
				if err != nil || !bytes.Equal(got[:n], sent) {
					t.Errorf("%s: %d bytes came back of %d, %v", c.gateway, n, size, err)
				}
			}
		}
	})
}

// Whoever sends to a port where nobody listens hears of it, and those that come later are heard.
func TestRefusedDatagramsAreRefused(t *testing.T) {
	w := begin(t, "relay")
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.LocalAddr().(*net.UDPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	w.inside.do(t, func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(relay.Gateway4, uint16(port)).String())
		return err
	})
	defer conn.Close() //nolint:errcheck // a socket
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the container reads %v, want %v", err, unix.ECONNREFUSED)
	}
}

// What the host cannot reach is unreachable at once.
func TestUnreachableIsUnreachable(t *testing.T) {
	w := begin(t, "relay")
	for _, at := range []string{"203.0.113.1:80", "[2001:db8::1]:80"} {
		w.inside.do(t, func() error {
			began := time.Now()
			conn, err := net.DialTimeout("tcp", at, 20*time.Second)
			if err == nil {
				return errors.Join(errors.New("connected to nobody"), conn.Close())
			}
			if !errors.Is(err, unix.ENETUNREACH) || time.Since(began) > 10*time.Second {
				t.Errorf("%s: %v after %s, want %v at once", at, err, time.Since(began), unix.ENETUNREACH)
			}
			return nil
		})
	}
}

// Whatever a container sends, its network goes on.
func TestOddFramesDoNoHarm(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a pattern, no secret
		own, gateway := []byte{2, 0x42, 10, 77, 0, 2}, []byte{2, 0x42, 10, 77, 0, 1}
		w.inside.do(t, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			to := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}
			for range 20000 {
				frame := make([]byte, 14+random.IntN(1500))
				for i := range frame {
					frame[i] = byte(random.Uint32())
				}
				copy(frame, [][]byte{gateway, {255, 255, 255, 255, 255, 255}, {2, 1, 2, 3, 4, 5}}[random.IntN(3)])
				copy(frame[6:], own)
				if len(frame) > 14+60 && random.IntN(4) != 0 { // mostly headers that get as far as the way out
					ip := frame[14:]
					if random.IntN(2) == 0 {
						frame[12], frame[13], ip[0], ip[9] = 8, 0, 0x45, []byte{1, 6, 17, 132}[random.IntN(4)]
						ip[2], ip[3], ip[6], ip[7] = byte(len(ip)>>8), byte(len(ip)), 0, 0
						copy(ip[12:], w.four.AsSlice())
						ip[10], ip[11] = 0, 0
						sum := uint32(0)
						for i := 0; i < 20; i += 2 {
							sum += uint32(ip[i])<<8 | uint32(ip[i+1])
						}
						for sum > 0xffff {
							sum = sum>>16 + sum&0xffff
						}
						ip[10], ip[11] = ^byte(sum>>8), ^byte(sum)
					} else {
						frame[12], frame[13], ip[0], ip[6] = 0x86, 0xdd, 0x60, []byte{6, 17, 58, 0, 44}[random.IntN(5)]
						ip[4], ip[5] = byte((len(ip)-40)>>8), byte(len(ip)-40)
						copy(ip[8:], w.six.AsSlice())
					}
				}
				if err := unix.Sendto(fd, frame, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EMSGSIZE) {
					return err
				}
			}
			return nil
		})
		port, _ := host(t, func(conn *net.TCPConn) error { return conn.Close() })
		if _, err := io.ReadAll(w.dial(t, port)); err != nil {
			t.Error(err)
		}
	})
}

func TestEcho(t *testing.T) {
	w := begin(t, "relay")
	ping := func(network string, to netip.Addr) (err error) {
		kind, family, proto := byte(8), unix.AF_INET, unix.IPPROTO_ICMP
		if to.Is6() {
			kind, family, proto = 128, unix.AF_INET6, unix.IPPROTO_ICMPV6
		}
		w.inside.do(t, func() error {
			fd, socketErr := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
			if socketErr != nil {
				return socketErr
			}
			defer unix.Close(fd)
			if network == "connected" {
				if err := unix.Connect(fd, relay.Sockaddr(netip.AddrPortFrom(to, 0))); err != nil {
					return err
				}
			}
			request := []byte{kind, 0, 0, 0, 0, 7, 0, 9, 'p', 'i', 'n', 'g'}
			if !to.Is6() {
				sum := uint32(0)
				for i := 0; i < len(request); i += 2 {
					sum += uint32(request[i])<<8 | uint32(request[i+1])
				}
				sum = ^(sum>>16 + sum&0xffff)
				request[2], request[3] = byte(sum>>8), byte(sum)
			}
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
				return err
			}
			if err := unix.Sendto(fd, request, 0, relay.Sockaddr(netip.AddrPortFrom(to, 0))); err != nil {
				return err
			}
			b := make([]byte, 200)
			for {
				n, _, readErr := unix.Recvfrom(fd, b, 0)
				if readErr != nil {
					err = readErr
					return nil
				}
				if bytes.HasSuffix(b[:n], request[4:]) {
					return nil
				}
			}
		})
		return err
	}
	// A new namespace lets nobody; with -count there is one for all.
	before, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(strings.Fields(string(before)), " ") == "0 0" {
		t.Log("echo is allowed already")
	} else if err := ping("connected", relay.Gateway4); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) {
		t.Errorf("a forbidden echo ends with %v, want an error that says so", err)
	}
	if err := sysctl("ipv4/ping_group_range", "0 0"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{relay.Gateway4, relay.Gateway6} {
		if err := ping("", to); err != nil {
			t.Errorf("no echo from %s: %v", to, err)
		}
	}
}

// A container sees its clients by their own addresses, those of the host's loopback as its gateway.
func TestPublishedPortsKeepTheClient(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		own := netlinkHere(t)
		up(t, own, "10.99.0.5/32", "fd99::5/128")
		awaitAddress(own, netip.MustParseAddr("fd99::5"))
		var server net.Listener
		var datagrams net.PacketConn
		w.inside.do(t, func() (err error) {
			if server, err = net.Listen("tcp", ":80"); err == nil {
				datagrams, err = net.ListenPacket("udp", ":80")
			}
			return err
		})
		defer server.Close()    //nolint:errcheck // a socket
		defer datagrams.Close() //nolint:errcheck // likewise
		go func() {
			for {
				c, err := server.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprint(c, c.RemoteAddr()) // read by the test
				_ = c.Close()                        // likewise
			}
		}()
		go func() {
			b := make([]byte, 10)
			for {
				_, from, err := datagrams.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = datagrams.WriteTo([]byte(from.String()), from) // likewise
			}
		}()
		for _, protocol := range []string{"tcp", "udp"} {
			port := plug.Port{Container: 80, Protocol: protocol}
			p := w.publish(t, port)
			for _, c := range []struct{ from, to, seen string }{
				{"10.99.0.5", "10.99.0.5", "10.99.0.5"},
				{"fd99::5", "fd99::5", "fd99::5"},
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

// Whoever has an address after another one has none of its flows.
func TestFlowsEndWithTheirContainer(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		port := echoUDP(t, "127.0.0.1:0")
		send := func() error {
			var conn net.Conn
			w.inside.do(t, func() (err error) {
				conn, err = (&net.Dialer{LocalAddr: &net.UDPAddr{Port: 4444}}).Dial("udp", netip.AddrPortFrom(relay.Gateway4, uint16(port)).String())
				return err
			})
			defer conn.Close() //nolint:errcheck // a socket
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			_, err := conn.Read(make([]byte, 1))
			return err
		}
		if err := send(); err != nil {
			t.Fatal(err)
		}
		// The next one with this address may not reach the host's loopback.
		if err := w.hub.space.allowLoopback([]netip.Addr{w.four}, false); err != nil {
			t.Fatal(err)
		}
		w.hub.way.Forget(w.four)
		time.Sleep(100 * time.Millisecond)
		if err := send(); err == nil {
			t.Error("the next container with the address is let through")
		}
	})
}
