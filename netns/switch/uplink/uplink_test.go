package uplink

// The uplink in real namespaces, as an ordinary user: the test runs itself again in a user namespace with a network namespace that plays the host; a second one
// has the TUN device and the client.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/relay"
	"github.com/skiff-containers/skiff/tests/inside"
)

func TestMain(m *testing.M) { inside.Main(m, unix.CLONE_NEWNET, nil) }

// client is a thread in the network namespace behind the uplink.
type client struct{ inside.Thread }

// dial connects to the host's loopback, by the gateway's address.
func (c client) dial(t *testing.T, port int) *net.TCPConn {
	t.Helper()
	var conn net.Conn
	c.Do(t, func() (err error) {
		conn, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", relay.Gateway4, port), 10*time.Second)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() }) // mostly closed already
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// beginUplink starts an uplink and returns it with the client behind it.
func beginUplink(t *testing.T) (client, *Uplink) {
	t.Helper()
	up(t, "lo")
	c := client{inside.NewThread(t)}
	var device *os.File
	c.Do(t, func() (err error) {
		if device, err = Device("up0"); err != nil {
			return err
		}
		link, err := netlink.LinkByName("up0")
		if err != nil {
			return err
		}
		address, err := netlink.ParseAddr(relay.Local4.String())
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMTU(link, relay.MTU), netlink.AddrAdd(link, address), netlink.LinkSetUp(link))
	})
	u, err := Start(device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return c, u
}

func up(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A container that sends to many ports takes no more than the limit, and connections are still made.
func TestFlowsOfUDPAreLimited(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < 4*maxFlows {
		t.Skipf("%d descriptors are too few to reach the limit", limit.Cur)
	}
	c, u := beginUplink(t)
	var from net.PacketConn
	c.Do(t, func() (err error) {
		from, err = net.ListenPacket("udp4", ":0")
		return err
	})
	t.Cleanup(func() { _ = from.Close() }) // at the end of the test
	port, _ := inside.Host(t, "127.0.0.1:0", func(conn *net.TCPConn) error { return conn.Close() })
	// The device drops what comes too fast, so each port is sent to until enough have arrived, and once more.
	for reached, round := 0, 0; reached < 2 && round < 50; round++ {
		for i := range maxFlows/2 + 1000 {
			if _, err := from.WriteTo([]byte("x"), &net.UDPAddr{IP: relay.Gateway4.AsSlice(), Port: 10000 + i}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Millisecond)
		if u.using().flows >= maxFlows/2 {
			reached++
		}
	}
	if _, err := io.ReadAll(c.dial(t, port)); err != nil {
		t.Fatal(err)
	}
	if n := u.using().flows; n != maxFlows/2 {
		t.Errorf("%d flows are open, want %d", n, maxFlows/2)
	}
}

// using is what is open.
func (u *Uplink) using() usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open
}

// So are connections; one that ends makes room.
func TestConnectionsAreLimited(t *testing.T) {
	c, u := beginUplink(t)
	u.mu.Lock()
	u.limits.connections = 6
	u.mu.Unlock()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // at the end of the test
	var all []*net.TCPConn
	for range 3 {
		all = append(all, c.dial(t, l.Addr().(*net.TCPAddr).Port))
	}
	c.Do(t, func() error {
		if conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", relay.Gateway4, l.Addr().(*net.TCPAddr).Port), time.Second/2); err == nil {
			t.Error("there is one more than half of the limit")
			return conn.Close()
		}
		return nil
	})
	if err := errors.Join(all[0].SetLinger(0), all[0].Close()); err != nil {
		t.Fatal(err)
	}
	c.dial(t, l.Addr().(*net.TCPAddr).Port)
	if n := u.using().connections; n > 3 {
		t.Errorf("%d are open, want 3", n)
	}
}
