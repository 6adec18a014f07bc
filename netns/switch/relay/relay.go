// Package relay is a network's way out by the kernel's own sockets: what a container sends to the world ends at a socket in the switch's namespace that has the address it was
// sent to, and goes on from an ordinary socket of the host. The kernel speaks TCP with the container; nothing of the stream passes the uplink's device.
//
// Only first packets do (Door): of a TCP connection the SYN, which is held until the host's connection stands (who refuses does so to the container too) and then put back, to be
// handed to our listener by the rule tproxy; of UDP the first datagram of a flow, for which a connected socket is made; echo requests. The rule `socket transparent` finds the sockets for
// everything that follows. Package netswitch writes these rules, and has a stack in user mode for kernels without them (package uplink).
//
// It is part of the switch (an engine process). Its listeners and the containers' side of its sockets are in the switch's network namespace; the other side is in the process's
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

// Limits. Each connection and flow takes descriptors of the switch, which all containers share: none may take all of them.
const (
	mostConnections = 1 << 15
	mostFlows       = 1 << 12
	// perConnection is how many descriptors a connection may take: its two sockets, and a part of the pipes.
	perConnection = 3
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
	door      Door
	listeners []*net.TCPListener
	ports     [2]uint16 // of the listeners, by family

	mu      sync.Mutex
	calls   map[tuple]*call
	flows   map[tuple]*flow
	open    map[netip.Addr]*usage // by container
	total   usage
	limits  usage
	readers sync.WaitGroup
}

// usage counts what is open.
type usage struct{ connections, flows int }

// Start opens the listeners. The rules name their ports; nothing is taken before Serve. inside runs a function on a thread that is in the switch's network namespace.
func Start(inside func(func() error) error) (*Relay, error) {
	r := &Relay{inside: inside, calls: map[tuple]*call{}, flows: map[tuple]*flow{}, open: map[netip.Addr]*usage{}, limits: limits()}
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

// Forget ends the flows of a container that has gone: whoever gets its address next is another one.
func (r *Relay) Forget(container netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, f := range r.flows {
		if key.from.Addr() == container {
			_ = f.out.Close() // its goroutines do the rest
		}
	}
}

// Close ends everything that has not begun to be carried. Connections that are open end with their sides.
func (r *Relay) Close() error {
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
		err := c.Control(func(fd uintptr) { set = transparent(int(fd), at) })
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

// limits shares out the descriptors that the process may have. One container gets half of each.
func limits() usage {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<30 {
		l.Cur = 1 << 30
	}
	n := int(l.Cur)
	return usage{connections: min(mostConnections, n/2/perConnection), flows: min(mostFlows, n/4/2)}
}

// enter counts one more connection or flow of a container, if there may be one; leave takes it back. The relay's lock is held.
func (r *Relay) enter(container netip.Addr, kind func(*usage) *int) bool {
	u := r.open[container]
	if u == nil {
		u = &usage{}
	}
	if limit := *kind(&r.limits); *kind(&r.total) >= limit || *kind(u) >= (limit+1)/2 {
		return false
	}
	*kind(u)++
	*kind(&r.total)++
	r.open[container] = u
	return true
}

func (r *Relay) leave(container netip.Addr, kind func(*usage) *int) {
	u := r.open[container]
	*kind(u)--
	*kind(&r.total)--
	if *u == (usage{}) {
		delete(r.open, container)
	}
}

func connections(u *usage) *int { return &u.connections }
func flows(u *usage) *int       { return &u.flows }
