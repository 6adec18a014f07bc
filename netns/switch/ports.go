package netswitch

// Published ports: a listener on the host, and from each client a connection to the container that has the client's own address.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// publication is one published port.
type publication struct {
	port   plug.Port
	listen interface {
		Close() error
		SyscallConn() (syscall.RawConn, error)
	}

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{} // clients
	most   int                   // of them
}

// refused is an error with what the user can do.
type refused struct {
	text, hint string
	err        error
}

func (r *refused) Unwrap() error    { return r.err }
func (r *refused) Error() string    { return r.text }
func (r *refused) HintText() string { return r.hint }

// publish serves a port of the host by its socket (plug.Bind), which it takes.
func (g *guest) publish(p plug.Port, socket *os.File) (*publication, error) {
	defer socket.Close() // the listener has its own descriptor
	// A quarter of the process's descriptors is for the clients of one port, who have up to two each and can be whoever they say they are.
	out := &publication{port: p, open: map[net.Conn]struct{}{}, most: relay.Descriptors() / 4 / 2}
	if p.Protocol == "tcp" {
		l, err := net.FileListener(socket)
		if err != nil {
			return nil, fmt.Errorf("cannot publish port %s: %w", p.Title(), err)
		}
		out.listen, out.port.Host = l.(*net.TCPListener), uint16(l.Addr().(*net.TCPAddr).Port)
		go out.acceptTCP(g, l)
		return out, nil
	}
	c, err := net.FilePacketConn(socket)
	if err != nil {
		return nil, fmt.Errorf("cannot publish port %s: %w", p.Title(), err)
	}
	l := c.(*net.UDPConn)
	out.listen, out.port.Host = l, uint16(l.LocalAddr().(*net.UDPAddr).Port)
	go out.relayUDP(g, l)
	return out, nil
}

// descriptor is one more of the socket, the caller's.
func (p *publication) descriptor() (fd int, err error) {
	raw, err := p.listen.SyscallConn()
	if err != nil {
		return -1, err
	}
	controlErr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(controlErr, err)
}

func (p *publication) close() {
	_ = p.listen.Close() // the accepting goroutine hears of it
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.open {
		_ = c.Close() // the container has gone
	}
}

// hold counts a client in, if there may be one more; release must follow.
func (p *publication) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.open) >= p.most {
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *publication) release(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *publication) acceptTCP(g *guest, l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // out of descriptors, mostly: they come back with connections that end
			continue
		}
		go func() {
			if !p.hold(client) {
				_ = client.Close() // too late, or one too many
				return
			}
			defer p.release(client)
			c, err := p.dial(g, client.RemoteAddr())
			if err != nil {
				_ = client.(*net.TCPConn).SetLinger(0) // the client sees a reset, as from a host where nobody listens
				_ = client.Close()                     // likewise
				return
			}
			relay.Join(client.(*net.TCPConn), c)
		}()
	}
}

// connectTimeout is how long a container may take to accept.
const connectTimeout = 10 * time.Second

// client is whom the container sees when from, a client, is connected: the client, or the network's gateway when the client is the host itself by its loopback, which no other machine may claim to
// be, or when the network is internal, so that the container could answer nobody else. shared says that it is the latter.
func (g *guest) client(from netip.AddrPort) (client, to netip.Addr, shared bool) {
	a := from.Addr().Unmap().WithZone("")
	to, network := g.door(a)
	if a.IsLoopback() || a.IsLinkLocalUnicast() || a.Is4() != to.Is4() || network.Internal {
		s, _ := network.SubnetOf(to)
		return s.Gateway, to, true
	}
	return a, to, false
}

// errNowhere is why nobody comes to a container that was disconnected from all networks which are ours.
var errNowhere = errors.New("the container is on no bridge network")

// dial connects to the container from inside the switch's namespace, as its client.
func (p *publication) dial(g *guest, from net.Addr) (*net.TCPConn, error) {
	address := from.(*net.TCPAddr).AddrPort()
	client, container, shared := g.client(address)
	if !container.IsValid() {
		return nil, errNowhere
	}
	to := netip.AddrPortFrom(container, p.port.Container)
	port := address.Port()
	if shared {
		port = 0 // others have it too
	}
	c, err := g.hub.dial(to, netip.AddrPortFrom(client, port))
	if port != 0 && (errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		// The client has the same port open to another published port of this container.
		return g.hub.dial(to, netip.AddrPortFrom(client, 0))
	}
	return c, err
}

// dial makes a TCP connection from inside, with from as its own address (IP_TRANSPARENT, ip(7)).
func (h *hub) dial(to, from netip.AddrPort) (*net.TCPConn, error) {
	fd, err := h.space.socket(to.Addr().Is6())
	if err != nil {
		return nil, err
	}
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if to.Addr().Is6() {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	err = errors.Join(unix.SetsockoptInt(fd, level, option, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err == nil && h.relay == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, ownMark)
	}
	if err == nil && from.Port() == 0 {
		// A port is chosen when it is known whom it is to: any may be in use to others.
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, relay.Sockaddr(from))
	}
	if err == nil {
		if err = unix.Connect(fd, relay.Sockaddr(to)); errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return connected(fd)
}

// connected waits for a connection that is being made.
func connected(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "container")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := f.SetWriteDeadline(time.Now().Add(connectTimeout)); err != nil {
		return nil, err
	}
	var result error
	first := true
	err = raw.Write(func(fd uintptr) bool {
		if first {
			first = false
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(poll, 0); n == 0 && err == nil {
				return false // not yet: come back when it is writable
			}
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		result = err
		return true
	})
	if err == nil {
		err = result
	}
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// relayUDP passes datagrams between clients and the container.
func (p *publication) relayUDP(g *guest, l *net.UDPConn) {
	relay.Clients(l, relay.IdleOf(p.port.Container), func(client netip.AddrPort) (net.Conn, error) {
		own, container, shared := g.client(client)
		if !container.IsValid() {
			return nil, errNowhere
		}
		to := netip.AddrPortFrom(container, p.port.Container)
		if shared && g.hub.relay == nil {
			// The stack cannot have the gateway's address, and has a stand-in for those that are the host's alone.
			if own = client.Addr().Unmap(); own.Is4() != container.Is4() {
				own = loopback(container)
			}
		}
		c, err := g.hub.way.DialUDP(netip.AddrPortFrom(own, client.Port()), to)
		if shared && errors.Is(err, unix.EADDRINUSE) {
			c, err = g.hub.way.DialUDP(netip.AddrPortFrom(own, 0), to)
		}
		if err == nil && !p.hold(c) {
			return nil, errors.Join(net.ErrClosed, c.Close())
		}
		return c, err
	}, func(c net.Conn) { p.release(c) })
}

// loopback is that of the family that an address is of.
func loopback(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
