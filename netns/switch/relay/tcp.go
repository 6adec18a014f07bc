package relay

// Connections: the host's side is made first, then the container's handshake goes on.

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// connectTimeout is how long a host may take to accept, and a container to finish its handshake afterwards: about as long as a container's own kernel is patient.
const connectTimeout = 30 * time.Second

// call is a connection that is being made.
type call struct {
	syn  []byte
	out  *net.TCPConn // nil until the host's side stands
	late *time.Timer  // ends it when the container does not go on
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
	case p.flags()&flagRST != 0:
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
		if !r.enter(p.from, connections) {
			r.mu.Unlock()
			return // the container's kernel asks again
		}
		p.all = slices.Clone(p.all)
		p, _ = parse(p.all)
		c = &call{syn: p.all}
		r.calls[key] = c
		r.mu.Unlock()
		go func() {
			out, err := (&net.Dialer{KeepAlive: -1, Timeout: connectTimeout}).Dial("tcp", to.String())
			r.dialed(key, c, p, out, err)
		}()
		return
	}
	standing := c.out != nil
	r.mu.Unlock()
	if standing {
		r.put(c.syn) // the first one was lost
	}
}

// dialed lets a container's handshake go on, or tells it why it does not.
func (r *Relay) dialed(key tuple, c *call, p packet, out net.Conn, err error) {
	if err == nil {
		r.mu.Lock()
		c.out = out.(*net.TCPConn)
		c.late = time.AfterFunc(connectTimeout, func() {
			if r.take(key) != nil {
				reset(c.out)
				r.ended(key)
			}
		})
		r.mu.Unlock()
		seal(p.body, p.from, p.to, p.protocol, sumTCP) // a packet socket gets packets whose checksum is still to come
		r.put(c.syn)
		return
	}
	r.take(key)
	r.ended(key)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		r.put(p.reset())
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		r.put(p.unreachable(prohibited))
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		r.put(p.unreachable(noNetwork))
	case errors.Is(err, unix.EHOSTUNREACH):
		r.put(p.unreachable(noHost))
	}
	// Else nobody answered, and so do we: the container's kernel says so in its own time.
}

// take removes a call, so that only one goroutine ends or carries it.
func (r *Relay) take(key tuple) *call {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls[key]
	delete(r.calls, key)
	return c
}

// ended gives a connection's place to another one.
func (r *Relay) ended(key tuple) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(key.from.Addr(), connections)
}

// put puts a packet into the namespace. One that is lost there is like any that is.
func (r *Relay) put(b []byte) { _ = r.door.Write(b) }

var background = context.Background()

// accept takes connections whose handshake is done.
func (r *Relay) accept(l *net.TCPListener) {
	for {
		in, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // out of descriptors, mostly: they come back with connections that end
			continue
		}
		key := tuple{in.RemoteAddr().(*net.TCPAddr).AddrPort(), in.LocalAddr().(*net.TCPAddr).AddrPort()}
		c := r.take(key)
		if c == nil {
			reset(in) // it came too late
			continue
		}
		c.late.Stop()
		go func() {
			Join(in, c.out)
			r.ended(key)
		}()
	}
}
