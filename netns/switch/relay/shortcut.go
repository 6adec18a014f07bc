package relay

// Shortcuts. Where a container makes many connections to one target in a short time, the way of each SYN over the device is a fifth of the work. There the next ones go straight to a listener of their own: the container's
// handshake is finished while the host's connection is made. Should that fail, as it does when the target has just gone away, the container's connection is reset, as one is that stood in the queue of a server
// that ends; and the next ones go over the device again, so that they are refused. Without many of them nothing is ever finished ahead of the host's connection.

import (
	"net"
	"net/netip"
	"time"
)

// How many connections in which time make a target busy; when none was made for as long, it is no more.
const (
	busy   = 16
	window = 200 * time.Millisecond
)

// linger is how long a listener stays for handshakes that had begun.
const linger = 2 * time.Second

// mostPaths is how many pairs of a container and a target are watched at once, and leastRoom how many connections there must be room for: what is over the limit can only be reset here.
const (
	mostPaths = 256
	leastRoom = 1 << 12
)

// Steer has connections that begin from an address to a target handed to the listener at a port of the namespace's loopback address of that family, without the device; with port 0 no more.
type Steer func(from netip.Addr, to netip.AddrPort, port uint16) error

// path is who makes connections to whom, as the container sees it.
type path struct {
	from netip.Addr
	to   netip.AddrPort
}

// shortcut is a path that is watched. The relay's lock is held for all of it.
type shortcut struct {
	made  int           // connections since
	since time.Time     // the beginning of the window
	last  time.Time     // of the last one
	done  chan struct{} // nil without a listener; closed when connections are to go over the device again
	ended bool          // it is over: done is closed, or nobody looks at it any more
	gone  bool          // so is the container
}

// end sends the next connections over the device.
func (s *shortcut) end() {
	if s.done != nil && !s.ended {
		s.ended = true
		close(s.done)
	}
}

// made notes a connection to the host that was made, and begins a shortcut where it is one of many.
func (r *Relay) made(p path) {
	if r.steer == nil || r.limits.connections < leastRoom {
		return
	}
	now := time.Now()
	s := r.paths[p]
	if s == nil {
		if !r.roomForPath(now) {
			return
		}
		s = &shortcut{since: now}
		r.paths[p] = s
	}
	if now.Sub(s.since) > window && s.done == nil {
		s.made, s.since = 0, now
	}
	s.last = now
	if s.made++; s.made >= busy && s.done == nil && !r.closed {
		s.done = make(chan struct{})
		r.readers.Go(func() { r.shorten(p, s) })
	}
}

// roomForPath forgets paths that are not busy when there are too many.
func (r *Relay) roomForPath(now time.Time) bool {
	if len(r.paths) >= mostPaths {
		for p, s := range r.paths {
			if s.done == nil && now.Sub(s.last) > window {
				delete(r.paths, p)
			}
		}
	}
	return len(r.paths) < mostPaths
}

// shorten is the life of a shortcut.
func (r *Relay) shorten(p path, s *shortcut) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.paths[p] == s {
			delete(r.paths, p)
		}
	}()
	at := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if p.from.Is6() {
		at = netip.IPv6Loopback()
	}
	l, err := r.listen(at)
	if err != nil {
		r.pause(s, linger) // it goes on without
		return
	}
	defer l.Close() //nolint:errcheck // a socket
	if _, err := room(l); err != nil {
		return
	}
	r.readers.Go(func() {
		r.take(l, func(in *net.TCPConn) bool { return r.straight(p, s, in) })
	})
	if err := r.steer(p.from, p.to, l.Addr().(*net.TCPAddr).AddrPort().Port()); err != nil {
		r.pause(s, linger)
		return
	}
	for again := true; again; {
		again = r.pause(s, window)
		r.mu.Lock()
		again = again && time.Since(s.last) < window
		r.mu.Unlock()
	}
	_ = r.steer(p.from, p.to, 0) // with the container's last network its rules may have gone
	r.mu.Lock()
	s.ended = true
	r.mu.Unlock()
	select {
	case <-time.After(linger):
	case <-r.over:
	}
}

// pause waits, but not longer than the shortcut lives.
func (r *Relay) pause(s *shortcut, d time.Duration) (lives bool) {
	select {
	case <-time.After(d):
		return true
	case <-s.done:
	case <-r.over:
	}
	return false
}

// straight carries a connection whose handshake is done to a host's that is still to be made, if there may be one more.
func (r *Relay) straight(p path, s *shortcut, in *net.TCPConn) bool {
	to, ok := Target(p.to)
	if !ok || in.LocalAddr().(*net.TCPAddr).AddrPort() != p.to {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.gone {
		return false
	}
	u := r.enter(p.from, connections)
	if u == nil || u.connections > r.limits.connections/4 {
		s.end() // before there are those that can only be reset
	}
	if u == nil {
		return false
	}
	l := &link{from: p.from, in: in}
	r.links[l] = struct{}{}
	go func() {
		out, err := dial(to)
		r.mu.Lock()
		switch {
		case err != nil:
			s.end()
		case !l.gone:
			l.out = out
			s.last = time.Now()
			r.mu.Unlock()
			Join(l.in, l.out)
			r.mu.Lock()
		default:
			reset(out)
		}
		delete(r.links, l)
		r.leave(u, connections)
		r.mu.Unlock()
		if err != nil {
			reset(in)
		}
	}()
	return true
}
