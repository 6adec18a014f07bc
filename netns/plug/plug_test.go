package plug

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/tests/inside"
)

// TestMain runs the tests in a user namespace, where a monitor is: a switch gets a mount namespace of its own.
func TestMain(m *testing.M) { inside.Main(m, 0, nil) }

func TestPorts(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	for _, tt := range []struct {
		name string
		list []Port
		want int // ranges
	}{
		{"none", nil, 0},
		{"one", []Port{{Host: 80, Container: 80, Protocol: "tcp"}}, 1},
		{"a range", []Port{{Host: 80, Container: 90, Protocol: "tcp"}, {Host: 81, Container: 91, Protocol: "tcp"}, {Host: 82, Container: 92, Protocol: "tcp"}}, 1},
		{"of two protocols", []Port{{Host: 80, Container: 80, Protocol: "tcp"}, {Host: 81, Container: 81, Protocol: "udp"}}, 2},
		{"at two addresses", []Port{{Host: 80, Container: 80, Protocol: "tcp"}, {IP: local, Host: 81, Container: 81, Protocol: "tcp"}}, 2},
		{"with a gap", []Port{{Host: 80, Container: 80, Protocol: "tcp"}, {Host: 82, Container: 81, Protocol: "tcp"}}, 2},
		{"any free ones", []Port{{Container: 80, Protocol: "tcp"}, {Container: 81, Protocol: "tcp"}}, 1},
		{"free and not", []Port{{Container: 80, Protocol: "tcp"}, {Host: 1, Container: 81, Protocol: "tcp"}}, 2},
		{"one of a range", []Port{{Host: 80, HostEnd: 90, Container: 80, Protocol: "tcp"}, {Host: 81, HostEnd: 90, Container: 81, Protocol: "tcp"}}, 2},
		{"up to the last", []Port{{Host: 65534, Container: 65534, Protocol: "udp"}, {Host: 65535, Container: 65535, Protocol: "udp"}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ranges := Compact(tt.list)
			if len(ranges) != tt.want || !slices.Equal(Expand(ranges), tt.list) || !slices.Equal(Compact(Expand(ranges)), ranges) {
				t.Errorf("%v becomes %v, and that %v", tt.list, ranges, Expand(ranges))
			}
		})
	}
}

// aSwitch is the other end of a cable, which answers as told.
func aSwitch(t *testing.T, answer func(conn *stage.Conn, r Request, files []*os.File)) Options {
	t.Helper()
	run := t.TempDir()
	if err := os.Mkdir(Dir(run), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := stage.Listen(filepath.Join(Dir(run), Sock))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					var r Request
					files, err := conn.Receive(&r)
					if err != nil {
						return
					}
					answer(conn, r, files)
					for _, f := range files {
						f.Close()
					}
				}
			}()
		}
	}()
	return Options{Run: run, Engine: "/nowhere"}
}

func TestCable(t *testing.T) {
	space := null(t)
	o := aSwitch(t, func(conn *stage.Conn, r Request, _ []*os.File) {
		switch {
		case r.Op == OpAttach && r.Container == "refused":
			_ = conn.Send(Reply{Error: "no room", Hint: "make some", Parent: "p"})
		case r.Op == OpAttach && r.Container == "dies", r.Op == OpDetach && r.Network == "dies":
			_ = conn.Close()
		case r.Op == OpAttach:
			_ = conn.Send(Reply{Ports: r.Ports}, space)
		case r.Op == OpDetach:
			_ = conn.Send(Reply{Error: "not on it"})
		default:
			_ = conn.Send(Reply{})
		}
	})
	connect := func() *Cable {
		c, err := Connect(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // some are closed already
		return c
	}
	asked := []Port{{Host: 1000, Container: 1, Count: 60000, Protocol: "tcp"}}
	c := connect()
	ports, err := c.Attach(Request{Container: "good", Ports: asked}, null(t))
	if err != nil || !slices.Equal(ports, asked) || c.Space() == nil {
		t.Fatal(ports, err, c.Space())
	}
	if err := c.Ask(Request{Op: OpConnect}); err != nil {
		t.Error(err)
	}
	if err := connect().Ask(Request{Op: OpConnect}); !errors.Is(err, ErrGone) {
		t.Errorf("a question about nobody: %v", err)
	}
	var no *Refusal
	if err := c.Ask(Request{Op: OpDetach}); !errors.As(err, &no) || no.Text != "not on it" {
		t.Error(err)
	}
	select {
	case <-c.Gone():
		t.Error("it is gone")
	default:
	}
	if err := c.Ask(Request{Op: OpDetach, Network: "dies"}); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	<-c.Gone()

	if _, err := connect().Attach(Request{Container: "refused"}, null(t)); !errors.As(err, &no) || no.Text != "no room" || no.HintText() != "make some" || no.Parent != "p" {
		t.Error(err)
	}
	if _, err := connect().Attach(Request{Container: "dies"}, null(t)); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// A program that is no switch, or not there, is an error that says so, and the next one may try.
func TestConnectFails(t *testing.T) {
	run := t.TempDir()
	for _, engine := range []string{"/nowhere", "/bin/true"} {
		if _, err := Connect(Options{Data: run, Run: run, Engine: engine}); err == nil || !strings.Contains(err.Error(), "cannot start the network switch") {
			t.Errorf("%s: %v", engine, err)
		}
	}
	// A socket that nobody serves is no switch either.
	l, err := net.Listen("unixpacket", filepath.Join(Dir(run), Sock))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(Options{Data: run, Run: run, Engine: "/bin/true"}); err == nil || !strings.Contains(err.Error(), "ended before it was ready") {
		t.Error(err)
	}
}

func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// FuzzRequest: what a monitor says is read as it was said, or refused.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"attach","container":"a","places":[{"network":{"id":"1","subnets":[{"subnet":"10.0.0.0/8"}]},"endpoint":{"ipv4":"10.0.0.2"}}],"ports":[{"host":1,"count":65535}]}`))
	f.Add([]byte(`{"ports":[{"host":65535,"container":65535,"count":3,"protocol":"udp"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Request
		if json.Unmarshal(data, &r) != nil {
			return
		}
		total := 0
		for _, p := range r.Ports {
			total += int(max(p.Count, 1))
		}
		if total > 1<<20 {
			return
		}
		if got := Expand(r.Ports); len(got) != total {
			t.Errorf("%d ports become %d", total, len(got))
		}
	})
}
