package netswitch

// The ways out: datagrams, echo, and what is neither.

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/relay"
	"github.com/skiff-containers/skiff/tests/inside"
)

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
			w.inside.Do(t, func() (err error) {
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
	w.inside.Do(t, func() (err error) {
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

// Whatever a container sends, its network goes on.
func TestOddFramesDoNoHarm(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a pattern, no secret
		own, gateway := []byte{2, 0x42, 10, 77, 0, 2}, []byte{2, 0x42, 10, 77, 0, 1}
		w.inside.Do(t, func() error {
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
		port, _ := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error { return conn.Close() })
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
		w.inside.Do(t, func() error {
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

// Whoever has an address after another one has none of its flows.
func TestFlowsEndWithTheirContainer(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		port := echoUDP(t, "127.0.0.1:0")
		send := func() error {
			var conn net.Conn
			w.inside.Do(t, func() (err error) {
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
