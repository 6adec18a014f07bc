package plug

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/stage"
)

// another is one more descriptor of a socket, as the switch sends them.
func another(t *testing.T, f *os.File) int {
	t.Helper()
	var fd int
	if err := control(f, func(own int) (err error) { fd, err = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0); return err }); err != nil {
		t.Fatal(err)
	}
	return fd
}

// freePort is a port of the host's loopback that nobody has.
func freePort(t *testing.T, protocol string) Port {
	t.Helper()
	p := Port{IP: netip.MustParseAddr("127.0.0.1"), Container: 80, Protocol: protocol}
	f := take(t, p)
	p.Host = at(t, f).Port()
	f.Close()
	return p
}

// free says whether a port can be had as the next container has it.
func free(t *testing.T, p Port) bool {
	t.Helper()
	f, err := Bind(p)
	if err == nil {
		f.Close()
	} else if !errors.Is(err, unix.EADDRINUSE) {
		t.Fatal(err)
	}
	return err == nil
}

func connect(p Port) error {
	c, err := net.Dial("tcp", netip.AddrPortFrom(p.IP, p.Host).String())
	if err == nil {
		err = c.Close()
	}
	return err
}

var kinds = map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}

// What is left of a port when its container has ended, and when it has for good.
func TestSocketsAtTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name          string
		protocol      string
		chosen, given bool
		stays         bool
	}{
		{"TCP, by number", "tcp", false, false, true},
		{"TCP, any", "tcp", true, false, false},
		{"TCP, the front's", "tcp", false, true, true},
		{"UDP, by number", "udp", false, false, false},
		{"UDP, any", "udp", true, false, false},
		{"UDP, the front's", "udp", false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := freePort(t, tt.protocol)
			if tt.chosen {
				p.Host = 0
			}
			asked := make([]Port, 8)
			asked[7] = p
			f := take(t, p)
			p.Host = at(t, f).Port()
			var s Sockets
			if tt.given {
				if err := s.Give(7, f); err != nil {
					t.Fatal(err)
				}
			} else {
				s.add(7, socket{fd: another(t, f)})
				f.Close() // the switch has gone
			}
			if free(t, p) || !s.Has(7) {
				t.Fatal("the port is somebody else's to take")
			}
			for range 2 { // lives
				if tt.protocol == "tcp" {
					if err := connect(p); err != nil {
						t.Fatal(err)
					}
				}
				s.Pause(asked)
				s.Pause(asked)
				if s.Has(7) != tt.stays || !tt.stays && !free(t, p) {
					t.Fatalf("it is there: %t", s.Has(7))
				}
				if !tt.stays {
					break
				}
				if err := connect(p); tt.protocol == "tcp" && !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("between two lives: %v", err)
				}
				// Whoever wants the port for itself does not get it, nor is it one of those that the kernel chooses from.
				fd, err := unix.Socket(unix.AF_INET, kinds[tt.protocol]|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(p.Host)}); !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("somebody else has it between two lives: %v", err)
				}
				unix.Close(fd)
				err = s.with([]int{6, 7}, func(places, fds []int) error {
					if !slices.Equal(places, []int{7}) {
						t.Errorf("there are %v", places)
					}
					fd, err := unix.Dup(fds[0])
					if err != nil {
						return err
					}
					lent := os.NewFile(uintptr(fd), "the switch's")
					defer lent.Close()
					return Resume(p, lent)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			if !free(t, p) {
				t.Error("the port is not free")
			}
			// What comes too late is let go as well.
			f = take(t, Port{Protocol: tt.protocol})
			p = Port{Host: at(t, f).Port(), Protocol: tt.protocol}
			s.add(1, socket{fd: another(t, f)})
			f.Close()
			if s.Has(1) || !free(t, p) {
				t.Error("a socket that came after the end is there")
			}
		})
	}
}

// ports is a switch that makes the sockets of ports which it is not lent, and hands them to whoever takes them.
type ports struct {
	made, lent chan []int

	mu   sync.Mutex
	conn *stage.Conn // to the monitor that is attached
}

func (s *ports) attached() *stage.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

func (s *ports) answer(t *testing.T, count int) func(conn *stage.Conn, r Request, files []*os.File) {
	var have []int
	space := null(t)
	return func(conn *stage.Conn, r Request, files []*os.File) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch r.Op {
		case OpLend:
			if len(r.Lent) != len(files) {
				t.Errorf("%d places of %d sockets", len(r.Lent), len(files))
			}
			have = append(have, r.Lent...)
			_ = conn.Send(Reply{}, space) // the cable says that it has no answer
		case OpAttach:
			s.conn = conn
			_ = conn.Send(Reply{Ports: r.Ports}, space) // likewise
			var made []int
			for i := range count {
				if !slices.Contains(have, i) && len(made) < r.Keep {
					made = append(made, i)
				}
			}
			lent := have
			have = nil
			s.lent <- lent
			for places := range slices.Chunk(made, Lent) {
				var sockets []*os.File
				for range places {
					sockets = append(sockets, take(t, Port{Protocol: "udp"}))
				}
				_ = conn.Send(Reply{Kept: places}, sockets...) // the test waits for them
			}
			s.made <- made
		default:
			_ = conn.Send(Reply{}) // likewise
		}
	}
}

// A cable takes the sockets of the container's ports, between answers to questions, and lends them to the next switch.
func TestCableKeepsSockets(t *testing.T) {
	const count = 10
	s := &ports{made: make(chan []int, 1), lent: make(chan []int, 1)}
	o := aSwitch(t, s.answer(t, count))
	o.Sockets = &Sockets{}
	defer o.Sockets.Close()
	r := Request{Ports: []Port{{Host: 1000, Container: 1, Count: count, Protocol: "udp"}}}
	for life := range 3 {
		c, err := Connect(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Attach(r, null(t)); err != nil {
			t.Fatal(err)
		}
		want := 0
		if life > 0 {
			want = count
		}
		if lent := <-s.lent; len(lent) != want {
			t.Errorf("life %d: the switch was lent %v", life, lent)
		}
		if made := <-s.made; len(made) != count-want {
			t.Errorf("life %d: the switch had to make %v", life, made)
		}
		if err := c.Ask(Request{Op: OpConnect}); err != nil { // its answer comes behind them
			t.Error(err)
		}
		for i := range count {
			if !o.Sockets.Has(i) {
				t.Errorf("life %d: socket %d is not there", life, i)
			}
		}
		if err := s.attached().Close(); err != nil {
			t.Fatal(err)
		}
		<-c.Gone()
		c.Retire() // nobody is there to be asked
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A monitor that has no more descriptors goes on with the sockets that it has.
func TestCableWithoutDescriptors(t *testing.T) {
	s := &ports{made: make(chan []int, 1), lent: make(chan []int, 1)}
	o := aSwitch(t, s.answer(t, 0))
	o.Sockets = &Sockets{}
	defer o.Sockets.Close()
	c, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // a connection
	if _, err := c.Attach(Request{Ports: []Port{{Host: 1000, Container: 1, Protocol: "udp"}}}, null(t)); err != nil {
		t.Fatal(err)
	}
	<-s.lent
	<-s.made
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	one, theirs := null(t), take(t, Port{Protocol: "udp"})
	next := another(t, one)
	unix.Close(next)
	none := before
	none.Cur = uint64(next) // the lowest number that is free
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	sent := s.attached().Send(Reply{Kept: []int{0, 1}}, one, theirs)
	askErr := c.Ask(Request{Op: OpConnect})
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_NOFILE, &before), sent, askErr); err != nil {
		t.Error(err)
	}
	if o.Sockets.Has(0) || o.Sockets.Has(1) {
		t.Error("there are sockets")
	}
}

// The end of a container waits for the switch, but for a short time only.
func TestRetire(t *testing.T) {
	mute := make(chan struct{})
	o := aSwitch(t, func(conn *stage.Conn, r Request, _ []*os.File) {
		if r.Op == OpRetire {
			<-mute
		}
		_ = conn.Send(Reply{}) // the cable says that it has no answer
	})
	c, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Retire() // it is not attached
	if _, err := c.Attach(Request{}, null(t)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.Retire()
	if took := time.Since(began); took < retirePatience {
		t.Errorf("it was waited for %s", took)
	}
	<-c.Gone()
	if err := c.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	close(mute)
	if c, err = Connect(o); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Attach(Request{}, null(t)); err != nil {
		t.Fatal(err)
	}
	c.Retire()
	if err := c.Ask(Request{Op: OpConnect}); err != nil {
		t.Errorf("the answer to the next question: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A quarter of the descriptors is for sockets.
func TestRoom(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before) //nolint:errcheck // as it was
	low := before
	low.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var s Sockets
	defer s.Close()
	if n := s.room(); n != 16 {
		t.Errorf("there is room for %d of 64", n)
	}
	s.add(0, socket{fd: another(t, null(t))})
	if n := s.room(); n != 15 {
		t.Errorf("there is room for %d more", n)
	}
}
