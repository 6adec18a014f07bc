package netswitch

// The ways out: connections.

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
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/relay"
	"github.com/skiff-containers/skiff/tests/inside"
)

func TestDownloadArrivesByteForByte(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		data := make([]byte, 16<<20)
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a pattern, no secret
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		port, sent := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error {
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
		port, _ := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error {
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
		port, got := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error { _, err := io.ReadAll(conn); return err })
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
		port, served := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error {
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
		w.inside.Do(t, func() error {
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
		port, served := inside.Host(t, "[::1]:0", func(conn *net.TCPConn) error {
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
		port, _ := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error { _, err := io.ReadAll(conn); return err })
		conn := w.dial(t, port)
		// A segment in the middle of nothing: a connection whose ports the kernel of the container alone has made up (TCP_REPAIR, tcp(7)).
		var fd int
		w.inside.Do(t, func() (err error) {
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

// What the host cannot reach is unreachable at once.
func TestUnreachableIsUnreachable(t *testing.T) {
	w := begin(t, "relay")
	for _, at := range []string{"203.0.113.1:80", "[2001:db8::1]:80"} {
		w.inside.Do(t, func() error {
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

// Whatever a stream of IPv4 passes inside carries pieces of the size that the kernel can.
func TestInterfacesCarryLargePieces(t *testing.T) {
	w := begin(t, "relay")
	if w.hub.space.segment == 0 {
		t.Skip("this kernel carries no more than 64 KB at once")
	}
	check := func(l netlink.Link, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if a := l.Attrs(); a.GSOIPv4MaxSize != 0 && a.GSOIPv4MaxSize != w.hub.space.segment || a.GSOMaxSize > 1<<16 {
			t.Errorf("%s carries %d of IPv4, not %d, and %d of IPv6", a.Name, a.GSOIPv4MaxSize, w.hub.space.segment, a.GSOMaxSize)
		}
	}
	c := w.guest.cables[0]
	check(w.hub.space.link.LinkByIndex(c.index))
	check(w.hub.space.link.LinkByIndex(c.bridge.index))
	w.inside.Do(t, func() error {
		check(netlink.LinkByName("eth0"))
		return nil
	})
}
