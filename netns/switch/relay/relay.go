// Package relay is a network's way out by the kernel's own sockets: what a container sends to the world ends at a socket in the switch's namespace that has the address it was
// sent to, and goes on from an ordinary socket of the host. The kernel speaks TCP with the container; nothing of the stream passes the uplink's device.
//
// Only first packets do (Door): of a TCP connection the SYN, which is held until the host's connection stands (who refuses does so to the container too) and then put back, to be
// handed to our listener by the rule tproxy; of UDP the first datagram of a flow, for which a connected socket is made; echo requests. The rule `socket transparent` finds the sockets for
// everything that follows. Where a container connects to one target again and again, SYNs are spared the device too (shortcut.go). Package netswitch writes these rules, and has a stack in user mode for kernels without them (package uplink).
//
// It is part of the switch. Its listeners and the containers' side of its sockets are in the switch's network namespace; the other side is in the process's
// own, the host's.
package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limits. Each connection and flow takes two descriptors of the switch, which all containers share: none may take all of them. Neither may it take all the room that the listeners have
// for handshakes: with more of them the kernel would answer by cookies, which the rule `socket` does not know.
const (
	mostConnections = 1 << 15
	mostCalls       = 1 << 12 // of the connections, those that are being made
	mostFlows       = 1 << 12
)

// Door is the uplink's device: whole IP packets, one at a time.
type Door interface {
	// Read returns a packet's length. Only one goroutine calls it.
	Read(b []byte) (int, error)
	// Write puts a packet into the namespace, as one that has come in over the uplink. Any goroutine calls it; b is the caller's again afterwards.
	Write(b []byte) error
	Close() error
}

// tuple is a connection or flow: who it comes from and whom it was sent to, as the container sees it.
type tuple struct{ from, to netip.AddrPort }

// Relay is a running one.
type Relay struct {
	inside    func(func() error) error
	steer     Steer // nil without shortcuts
	door      Door
	listeners []*net.TCPListener
	ports     [2]uint16 // of the listeners, by family

	mu      sync.Mutex
	calls   map[tuple]*call
	links   map[*link]struct{}
	flows   map[tuple]*flow
	paths   map[path]*shortcut
	closed  bool
	over    chan struct{}         // closed with it
	open    map[netip.Addr]*usage // of the container that has the address
	total   usage
	limits  usage
	readers sync.WaitGroup
}

// usage counts what is open.
type usage struct{ connections, calls, flows int }

// Start opens the listeners. The rules name their ports; nothing is taken before Serve. inside runs a function on a thread that is in the switch's network namespace; steer makes shortcuts, nil for none.
func Start(inside func(func() error) error, steer Steer) (*Relay, error) {
	r := &Relay{
		inside: inside, steer: steer, calls: map[tuple]*call{}, links: map[*link]struct{}{}, flows: map[tuple]*flow{}, paths: map[path]*shortcut{}, over: make(chan struct{}),
		open: map[netip.Addr]*usage{}, limits: limits(),
	}
	for i, at := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		l, err := r.listen(at)
		if err != nil {
			if i == 1 && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)) {
				break // no IPv6 here
			}
			return nil, errors.Join(fmt.Errorf("cannot set up the uplink: %w", err), r.closeListeners())
		}
		r.listeners = append(r.listeners, l)
		r.ports[i] = l.Addr().(*net.TCPAddr).AddrPort().Port()
		n, err := room(l)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot set up the uplink: %w", err), r.closeListeners())
		}
		r.limits.calls = min(r.limits.calls, n)
	}
	return r, nil
}

// Ports are the listeners' ports on the loopback addresses of IPv4 and IPv6 (0: there is none), which tproxy is to name.
func (r *Relay) Ports() (four, six uint16) { return r.ports[0], r.ports[1] }

// Serve begins to take connections, and packets from a door, which is the relay's from then on.
func (r *Relay) Serve(door Door) {
	r.door = door
	for _, l := range r.listeners {
		r.readers.Go(func() { r.accept(l) })
	}
	r.readers.Go(r.read)
}

// Together says that these addresses are one container's: what is open is counted for all of them at once.
func (r *Relay) Together(addresses ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all *usage
	for _, a := range addresses {
		if u := r.open[a]; u != nil {
			all = u
		}
	}
	if all == nil {
		all = &usage{}
	}
	for _, a := range addresses {
		r.open[a] = all
	}
}

// Forget ends what a container has open by an address that it has no more: whoever gets the address next is another one, and who is not connected any more says nothing about its end.
func (r *Relay) Forget(address netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, f := range r.flows {
		if key.from.Addr() == address {
			_ = f.out.Close() // its goroutines do the rest
		}
	}
	for l := range r.links {
		if l.from == address {
			l.gone = true
			reset(l.in) // likewise
			if l.out != nil {
				reset(l.out)
			}
		}
	}
	for p, s := range r.paths {
		if p.from == address {
			s.gone = true
			s.end()
			delete(r.paths, p) // the next one's are its own
		}
	}
	for key, c := range r.calls {
		if key.from.Addr() == address {
			r.end(key, c)
		}
	}
	delete(r.open, address)
}

// Close ends everything that has not begun to be carried. Connections that are open end with their sides.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	close(r.over)
	err := r.closeListeners()
	if r.door != nil {
		err = errors.Join(err, r.door.Close())
	}
	r.readers.Wait()
	return err
}

func (r *Relay) closeListeners() error {
	var all error
	for _, l := range r.listeners {
		all = errors.Join(all, l.Close())
	}
	return all
}

// listen opens a listener of the namespace that takes connections to any address (IP_TRANSPARENT, ip(7)). It has an address of its own, not the wildcard one, or every packet to its
// port would be found to belong to it.
func (r *Relay) listen(at netip.Addr) (l *net.TCPListener, err error) {
	network := "tcp4"
	if at.Is6() {
		network = "tcp6"
	}
	config := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = errors.Join(transparent(int(fd), at), patient(int(fd))) })
		return errors.Join(err, set)
	}}
	config.SetMultipathTCP(false) // a plain socket is what tproxy finds
	err = r.inside(func() error {
		listener, err := config.Listen(background, network, netip.AddrPortFrom(at, 0).String())
		if err == nil {
			l = listener.(*net.TCPListener)
		}
		return err
	})
	return l, err
}

// transparent lets a socket have any address as its own (ip(7), ipv6(7)).
func transparent(fd int, like netip.Addr) error {
	if like.Is6() {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
}

// patient sets what holds for a listener's connections (tcp(7)): how often a handshake is asked to go on (for handshakeTimeout, about), and that a container is asked now and then whether
// it still has its end. One that has gone without a word would be waited for for ever.
func patient(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_SYNCNT, synTries),
		unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_KEEPIDLE, 60), unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_KEEPINTVL, 15),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
	)
}

// room is how many handshakes a listener has room for: as many as we want, or as the namespace allows (net.core.somaxconn).
func room(l *net.TCPListener) (n int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = unix.Listen(int(fd), mostCalls); failed != nil {
			return
		}
		var info *unix.TCPInfo
		if info, failed = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); failed == nil {
			n = int(info.Sacked) // of a listener it is that
		}
	})
	return n, errors.Join(err, failed)
}

// Descriptors is how many the process may have.
func Descriptors() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<30 {
		return 1 << 30
	}
	return int(l.Cur)
}

// limits shares out the descriptors. One container gets half of each.
func limits() usage {
	n := Descriptors()
	return usage{connections: min(mostConnections, n/2/2), calls: mostCalls, flows: min(mostFlows, n/4/2)}
}

// enter counts one more of each kind for the container that has an address, if there may be one; leave takes it back. The relay's lock is held.
func (r *Relay) enter(address netip.Addr, kinds ...kind) *usage {
	u := r.open[address]
	if u == nil {
		u = &usage{}
		r.open[address] = u
	}
	for _, k := range kinds {
		if limit := *k(&r.limits); *k(&r.total) >= limit || *k(u) >= (limit+1)/2 {
			return nil
		}
	}
	for _, k := range kinds {
		*k(u)++
		*k(&r.total)++
	}
	return u
}

func (r *Relay) leave(u *usage, kinds ...kind) {
	for _, k := range kinds {
		*k(u)--
		*k(&r.total)--
	}
}

// kind is one of the counts.
type kind func(*usage) *int

func connections(u *usage) *int { return &u.connections }
func calls(u *usage) *int       { return &u.calls }
func flows(u *usage) *int       { return &u.flows }
