package uplink

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	maxConnecting  = 4096             // connections that are being made at once; further ones wait for the peer's next SYN
	connectTimeout = 30 * time.Second // as long as a container's own kernel is patient, about
)

// acceptTCP makes a container's connection from the host first, so that what refuses or does not answer does so to the container too.
func (u *Uplink) acceptTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	to, ok := target(id.LocalAddress, id.LocalPort)
	if !ok {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	out, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		// Refused is refused; what cannot be reached stays unanswered, and the container's kernel says so in its own time.
		r.Complete(errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM))
		return
	}
	var queue waiter.Queue
	end, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		r.Complete(true)
		reset(out.(*net.TCPConn)) // the container has reset it already
		return
	}
	r.Complete(false)
	end.SocketOptions().SetDelayOption(false)
	Join(&inner{gonet.NewTCPConn(&queue, end), end}, out.(*net.TCPConn))
}

// inner is a container's connection, which can be reset: closing a gonet.TCPConn ends it in good order.
type inner struct {
	*gonet.TCPConn
	end tcpip.Endpoint
}

// abort sends a reset.
func (c *inner) abort() { c.end.Abort() }

// HalfCloser is a connection whose two directions end by themselves.
type HalfCloser interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// Join copies both ways until both have ended. The end of one direction is passed on as such; a reset ends both.
func Join(a, b HalfCloser) {
	var both sync.WaitGroup
	pump := func(to, from HalfCloser) {
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 128<<10))
		if err == nil {
			err = to.CloseWrite()
		}
		if err != nil {
			reset(to)
			reset(from)
		}
	}
	both.Go(func() { pump(a, b) })
	both.Go(func() { pump(b, a) })
	both.Wait()
	_ = a.Close() // both directions have ended
	_ = b.Close() // likewise
}

// reset ends a connection so that the other side sees that something went wrong.
func reset(c HalfCloser) {
	switch t := c.(type) {
	case *net.TCPConn:
		_ = t.SetLinger(0) // a closed one needs no reset
	case *inner:
		t.abort()
	}
	_ = c.Close() // likewise
}
