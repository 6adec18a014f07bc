package netswitch

// Sockets of published ports that monitors keep and lend.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/stage"
)

// monitor is one that speaks with the switch by hand.
type monitor struct {
	*testing.T
	conn *stage.Conn
}

// monitorOf connects one with a hub, which serves it until it goes.
func monitorOf(t *testing.T, h *hub) *monitor {
	t.Helper()
	ours, theirs, err := stage.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	conn, err := stage.NewConn(fd)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.serve(t.Context(), conn)
	}()
	t.Cleanup(func() {
		_ = ours.Close() // it may have gone already
		<-served
	})
	return &monitor{t, ours}
}

// ask sends a request and returns the answer.
func (m *monitor) ask(r plug.Request, files ...*os.File) plug.Reply {
	m.Helper()
	if err := m.conn.Send(r, files...); err != nil {
		m.Fatal(err)
	}
	reply, got := m.hear()
	for _, f := range got {
		f.Close()
	}
	return reply
}

func (m *monitor) hear() (reply plug.Reply, files []*os.File) {
	m.Helper()
	files, err := m.conn.Receive(&reply)
	if err != nil || reply.Error != "" {
		m.Fatal(reply.Error, err)
	}
	return reply, files
}

// The monitor gets what was made here, in messages that it can take, but no more than it wants; what it has lent it has already.
func TestSocketsAreHandedOut(t *testing.T) {
	w := begin(t, "relay")
	m := monitorOf(t, w.hub)
	mine, err := plug.Bind(plug.Port{Protocol: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	m.ask(plug.Request{Op: plug.OpLend, Lent: []int{1}}, mine)
	_, namespace := newInsider(t)
	place := w.guest.cables[0].place
	place.Endpoint.IPv4, place.Endpoint.IPv6 = netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("fd77::9")
	place.Endpoint.MAC, place.Endpoint.ID = "02:42:0a:4d:00:09", "9"+place.Endpoint.ID[1:]
	asked := []plug.Port{{Container: 80, Protocol: "tcp"}, {Container: 81, Protocol: "tcp"}, {Container: 82, Count: 3, Protocol: "udp"}, {Container: 85, Count: 9, Protocol: "tcp"}}
	ports := plug.Expand(m.ask(plug.Request{Op: plug.OpAttach, Container: "c", Places: []plug.Place{place}, Ports: asked, Keep: 7}, namespace).Ports)
	if len(ports) != 14 {
		t.Fatal(ports)
	}
	got := map[int]*os.File{}
	for len(got) < 7 {
		reply, files := m.hear()
		if len(reply.Kept) != len(files) || len(files) > plug.Lent {
			t.Fatalf("%d places of %d sockets", len(reply.Kept), len(files))
		}
		for i, place := range reply.Kept {
			got[place] = files[i]
			defer files[i].Close()
		}
	}
	for i := range ports {
		if want := i < 8 && i != 1; (got[i] != nil) != want {
			t.Errorf("socket %d was handed out: %t", i, !want)
		}
	}
	for i, f := range got {
		var where net.Addr
		if ports[i].Protocol == "tcp" {
			l, err := net.FileListener(f)
			if err != nil {
				t.Fatal(err)
			}
			where = l.Addr()
			_ = l.Close() // it was only asked
		} else {
			c, err := net.FilePacketConn(f)
			if err != nil {
				t.Fatal(err)
			}
			where = c.LocalAddr()
			_ = c.Close() // likewise
		}
		if _, port, _ := net.SplitHostPort(where.String()); port != fmt.Sprint(ports[i].Host) {
			t.Errorf("socket %d is at %s, want port %d", i, where, ports[i].Host)
		}
	}
	// The container ends: what was not handed out is free when the switch has answered.
	m.ask(plug.Request{Op: plug.OpRetire})
	for i, p := range ports {
		taken, err := plug.Bind(p)
		if kept := got[i] != nil || i == 1; kept != errors.Is(err, unix.EADDRINUSE) || !kept && err != nil {
			t.Errorf("port %d: %v", i, err)
		}
		if err == nil {
			taken.Close()
		}
	}
}

// A container that has ended is left by its clients when they have heard everything, and nobody else comes. Sockets come no more.
func TestRetire(t *testing.T) {
	w := begin(t, "relay")
	var server net.Listener
	w.inside.Do(t, func() (err error) { server, err = net.Listen("tcp", ":80"); return err })
	defer server.Close() //nolint:errcheck // a socket
	p := w.publish(t, plug.Port{Container: 80, Protocol: "tcp"})
	w.guest.ports, w.guest.made = []*publication{p}, []int{0}
	at := fmt.Sprintf("127.0.0.1:%d", p.port.Host)
	client, err := net.DialTimeout("tcp", at, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // a socket
	inside, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w.guest.retire()
	if _, err := net.Dial("tcp", at); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("somebody else comes: %v", err)
	}
	if _, err := inside.Write([]byte("the last word")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(inside.Close(), client.SetDeadline(time.Now().Add(10*time.Second))); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(client); string(said) != "the last word" || err != nil {
		t.Errorf("the client has heard %q, %v", said, err)
	}
	ours, theirs, err := stage.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	if w.guest.handSome(ours, []int{0}) {
		t.Error("a socket was handed out after the end")
	}
}
