package relay

// Connections: the host's side is made first, then the container's handshake goes on.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connectTimeout is how long a host may take to accept: about as long as a container's own kernel is patient.
const connectTimeout = 30 * time.Second

// handshakeTimeout is how long a container may take to go on afterwards: no longer than the kernel asks it to, which is after 1, 2 and 4 seconds. It is next door.
const (
	handshakeTimeout = 8 * time.Second
	synTries         = 2
)

// call is a connection that is being made.
type call struct {
	syn   []byte       // the last one
	out   *net.TCPConn // nil until the host's side stands
	late  *time.Timer  // ends it when the container does not go on
	usage *usage
}

// link is a connection that is carried.
type link struct {
	from    netip.Addr
	in, out *net.TCPConn // out is nil until the host's side stands
	gone    bool         // its container has
}

// read takes first packets until the door is closed.
func (r *Relay) read() {
	b := make([]byte, 1<<16)
	parts := pieces{}
	for {
		n, err := r.door.Read(b)
		if err != nil {
			return
		}
		p, ok := parse(parts.whole(b[:n]))
		if !ok {
			continue
		}
		switch p.protocol {
		case unix.IPPROTO_TCP:
			r.segment(p)
		case unix.IPPROTO_UDP:
			r.datagram(p)
		default:
			r.echo(p)
		}
	}
}

// segment takes a segment of TCP. All but SYNs belong to connections that are no more, those of a switch before among them: the container is to hear of it.
func (r *Relay) segment(p packet) {
	switch {
	case p.flags()&flagRST != 0 || len(p.header()) < headerTCP:
		return
	case p.flags()&(flagSYN|flagACK|flagFIN) != flagSYN:
		r.put(p.reset())
		return
	}
	key := p.tuple()
	to, ok := Target(key.to)
	if !ok {
		r.put(p.reset())
		return
	}
	r.mu.Lock()
	c := r.calls[key]
	if c == nil {
		u := r.enter(p.from, connections, calls)
		if u == nil {
			r.mu.Unlock()
			return // the container's kernel asks again
		}
		c = &call{syn: p.bare(), usage: u}
		r.calls[key] = c
		r.mu.Unlock()
		go func() {
			out, err := dial(to)
			r.dialed(key, c, out, err)
		}()
		return
	}
	// The one before was lost, or given up: then this one is another connection's, and has other numbers.
	c.syn = p.bare()
	syn, standing := c.syn, c.out != nil
	r.mu.Unlock()
	if standing {
		r.put(syn)
	}
}

// dial connects to a host. Hosts are asked now and then whether they are still there: what the container's kernel asks, ours answers. A long silence is taken for an end.
func dial(to netip.AddrPort) (*net.TCPConn, error) {
	ask := net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Minute, Count: 15}
	out, err := (&net.Dialer{KeepAliveConfig: ask, Timeout: connectTimeout}).Dial("tcp", to.String())
	if err != nil {
		return nil, err
	}
	return out.(*net.TCPConn), nil
}

// dialed lets a container's handshake go on, or tells it why it does not.
func (r *Relay) dialed(key tuple, c *call, out *net.TCPConn, err error) {
	r.mu.Lock()
	c.out = out
	switch syn := c.syn; {
	case r.calls[key] != c: // forgotten
		if err == nil {
			reset(c.out)
		}
		r.mu.Unlock()
	case err == nil:
		c.late = time.AfterFunc(handshakeTimeout, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.calls[key] == c {
				r.end(key, c)
			}
		})
		r.made(path{key.from.Addr(), key.to})
		r.mu.Unlock()
		r.put(syn)
	default:
		r.end(key, c)
		r.mu.Unlock()
		p, _ := parse(syn)
		r.refuse(p, err)
	}
}

// refuse tells a container why the host could not connect.
func (r *Relay) refuse(p packet, err error) {
	if errors.Is(err, unix.ECONNREFUSED) {
		r.put(p.reset())
	} else if why, ok := because(err, p.to); ok {
		r.put(p.unreachable(why))
	}
	// Else nobody answered, and so do we: the container's kernel says so in its own time.
}

// end ends a connection that is being made. The relay's lock is held.
func (r *Relay) end(key tuple, c *call) {
	delete(r.calls, key)
	r.leave(c.usage, connections, calls)
	if c.late != nil {
		c.late.Stop()
	}
	if c.out != nil {
		reset(c.out)
	}
}

// put puts a packet into the namespace. One that is lost there is like any that is.
func (r *Relay) put(b []byte) { _ = r.door.Write(b) }

var background = context.Background()

// accept takes connections whose SYN has come over the device.
func (r *Relay) accept(l *net.TCPListener) {
	r.take(l, func(in *net.TCPConn) bool {
		return r.accepted(tuple{in.RemoteAddr().(*net.TCPAddr).AddrPort(), in.LocalAddr().(*net.TCPAddr).AddrPort()}, in)
	})
}

// take takes connections whose handshake is done, until the listener is closed, and resets those that are not wanted.
func (r *Relay) take(l *net.TCPListener, wanted func(in *net.TCPConn) bool) {
	for {
		in, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // out of descriptors, mostly: they come back with connections that end
			continue
		}
		if !wanted(in) {
			reset(in)
		}
	}
}

// accepted carries a connection whose handshake is done, if it has not come too late.
func (r *Relay) accepted(key tuple, in *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls[key]
	if c == nil || c.out == nil { // a container may have finished another handshake than the one that is wanted now
		return false
	}
	delete(r.calls, key)
	c.late.Stop()
	r.leave(c.usage, calls)
	l := &link{from: key.from.Addr(), in: in, out: c.out}
	r.links[l] = struct{}{}
	go func() {
		Join(l.in, l.out)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.links, l)
		r.leave(c.usage, connections)
	}()
	return true
}
