package netswitch

// Real namespaces for tests, as an ordinary user: the process's own network namespace plays the host (TestMain), the switch has a second one, each container another.

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
	"github.com/skiff-containers/skiff/tests/inside"
)

// newInsider starts a thread in a network namespace of its own.
func newInsider(t *testing.T) (i inside.Thread, namespace *os.File) {
	t.Helper()
	i = inside.NewThread(t)
	i.Do(t, func() (err error) {
		namespace, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	return i, namespace
}

// site is a host with a switch and a container.
type site struct {
	hub       *hub
	guest     *guest
	inside    inside.Thread // the container
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
	store := netns.Open(t.TempDir(), t.TempDir())
	h := &hub{store: store, view: netns.NewView(store), space: space, bridges: map[string]*bridge{}, gone: make(chan struct{})}
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
	place := plug.Place{Network: network, Default: true, Default6: true, Endpoint: netns.Endpoint{
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
	w.inside.Do(t, func() (err error) {
		conn, err = net.DialTimeout("tcp", at.String(), 10*time.Second)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() }) // mostly closed already
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}
