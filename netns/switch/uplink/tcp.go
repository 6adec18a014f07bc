package uplink

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/skiff-containers/skiff/netns/switch/relay"
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
	t := u.enter(id.RemoteAddress, connections)
	if t == nil {
		r.Complete(false) // it tries again
		return
	}
	defer t.leave()
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	t.until(cancel)
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
		_ = out.(*net.TCPConn).SetLinger(0) // the container has reset it already
		_ = out.Close()                     // likewise
		return
	}
	r.Complete(false)
	end.SocketOptions().SetDelayOption(false)
	in, host := &inner{gonet.NewTCPConn(&queue, end), end}, out.(*net.TCPConn)
	abort := func() {
		in.Abort()
		_ = host.SetLinger(0) // a reset
		_ = host.Close()      // the goroutines that carry do the rest
	}
	if !t.until(abort) {
		abort()
	}
	relay.Join(in, host)
}

// inner is a container's connection, which can be reset: closing a gonet.TCPConn ends it in good order.
type inner struct {
	*gonet.TCPConn
	end tcpip.Endpoint
}

// Abort implements relay.Resetter.
func (c *inner) Abort() { c.end.Abort() }
