package relay

// Flows of UDP: two connected sockets each, one that speaks with the container and has the address it sent to, one of the host's.

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Idle is how long a flow without packets is remembered: one that nobody has answered yet, and another one. The zero one ends at once.
type Idle struct{ Unanswered, Answered time.Duration }

// IdleOf is that of flows to a port: name look-ups are forgotten soon, others as conntrack does. Who sends to many that are silent, or says that he is many, does not hold what others need for long.
func IdleOf(port uint16) Idle {
	if port == 53 {
		return Idle{10 * time.Second, 10 * time.Second}
	}
	return Idle{30 * time.Second, 180 * time.Second}
}

// flow is one that is carried.
type flow struct {
	out   *net.UDPConn
	first []byte // the beginning of its first packet, to be quoted
	usage *usage
}

// datagram takes one that no socket of ours is there for yet: it begins a flow, or came at the same time as the one that did.
func (r *Relay) datagram(p packet) {
	key := p.tuple()
	payload := p.body[headerUDP:]
	r.mu.Lock()
	f := r.flows[key]
	r.mu.Unlock()
	if f != nil {
		offer(f.out, payload)
		return
	}
	to, ok := Target(key.to)
	if !ok {
		return // dropped: an answer would say that there is something
	}
	r.mu.Lock()
	u := r.enter(p.from, flows)
	r.mu.Unlock()
	if u == nil {
		return
	}
	in, out, err := r.sockets(key, to)
	if err != nil {
		r.endFlow(key, u)
		if why, ok := because(err, p.to); ok {
			r.put(p.unreachable(why))
		}
		return
	}
	f = &flow{out: out, first: slices.Clone(p.all[:min(len(p.all), header6+headerUDP)])}
	r.mu.Lock()
	r.flows[key] = f
	r.mu.Unlock()
	offer(out, payload)
	go func() {
		refused := func() {
			quoted := packet{all: f.first, from: p.from, to: p.to}
			r.put(quoted.unreachable(noPort))
		}
		Carry(in, out, IdleOf(key.to.Port()), refused)
		r.endFlow(key, u)
	}()
}

// endFlow forgets a flow.
func (r *Relay) endFlow(key tuple, u *usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flows, key)
	r.leave(u, flows)
}

// offer sends a datagram, or loses it where there is no room for it: all first packets wait for the one goroutine that does this, and a host that does not answer for its address holds what
// is sent to it for seconds. Nor may it wait for the lock of whoever sends there.
func offer(c *net.UDPConn, payload []byte) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Send(int(fd), payload, unix.MSG_DONTWAIT) }) // like any that is lost
	}
}

// sockets makes a flow's: the container's side has the address that was sent to.
func (r *Relay) sockets(key tuple, to netip.AddrPort) (in, out *net.UDPConn, err error) {
	if out, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
		return nil, nil, err
	}
	inner, err := r.DialUDP(key.to, key.from)
	if err != nil {
		return nil, nil, errors.Join(err, out.Close())
	}
	return inner.(*net.UDPConn), out, nil
}

// DialUDP makes a socket of the namespace that has from, any address, as its own, and is connected to a container's.
func (r *Relay) DialUDP(from, to netip.AddrPort) (net.Conn, error) {
	fd := -1
	family := unix.AF_INET
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := r.inside(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	// Other containers may have flows from the same address. Until it is connected the socket takes nothing, or it would take what is theirs.
	nothing := &unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}}
	err = errors.Join(transparent(fd, from.Addr()), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, nothing))
	if err == nil {
		err = unix.Bind(fd, Sockaddr(from))
	}
	if err == nil {
		err = unix.Connect(fd, Sockaddr(to))
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}
	f := os.NewFile(uintptr(fd), "container")
	defer f.Close() // the connection has a descriptor of its own
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return net.FileConn(f)
}

// Sockaddr is an address as system calls take it.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Carry passes datagrams both ways between two connected sockets, of which a began, until none came either way for as long as idle says, or one was closed, and closes both. refused is called when
// b says that nobody listens where it sends to.
func Carry(a, b net.Conn, idle Idle, refused func()) {
	traffic := newTraffic(idle)
	var both sync.WaitGroup
	inner, outer := newBatch(a, nil), newBatch(b, refused)
	way := func(to, from *batch, answer bool) {
		carry(to, from, traffic, answer)
		_ = a.Close() // the other way hears of it
		_ = b.Close() // likewise
	}
	both.Go(func() { way(outer, inner, false) })
	way(inner, outer, true)
	both.Wait()
}

// traffic is when something came last on a flow, either way.
type traffic struct {
	idle     Idle
	last     atomic.Int64 // in nanoseconds
	answered atomic.Bool
}

func newTraffic(idle Idle) *traffic {
	t := &traffic{idle: idle}
	t.note(false)
	return t
}

// note says that something comes now.
func (t *traffic) note(answer bool) {
	t.last.Store(time.Now().UnixNano())
	if answer && !t.answered.Load() {
		t.answered.Store(true)
	}
}

// patience is how long a flow may be silent, and end when it is over if nothing comes.
func (t *traffic) patience() time.Duration {
	if t.answered.Load() {
		return t.idle.Answered
	}
	return t.idle.Unanswered
}

func (t *traffic) end() time.Time { return time.Unix(0, t.last.Load()).Add(t.patience()) }

// sender is where datagrams go.
type sender interface {
	send(list []ipv4.Message) error
}

// carry passes datagrams on one way; answer says that it is the way back.
func carry(to sender, from *batch, t *traffic, answer bool) {
	for {
		if err := from.conn.SetReadDeadline(t.end()); err != nil {
			return
		}
		// The deadline is moved now and then, not with each datagram.
		for until := time.Now().Add(t.patience()/2 + time.Millisecond); time.Now().Before(until); {
			m, err := from.receive()
			switch {
			case isTimeout(err):
				if !time.Now().Before(t.end()) {
					return
				}
				until = time.Time{} // the other way is in use
				continue
			case err != nil:
				return
			}
			t.note(answer)
			err = to.send(m.list())
			m.lend()
			if err != nil {
				return
			}
		}
	}
}

// isTimeout knows the deadlines of the kernel's and the stack's sockets.
func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
