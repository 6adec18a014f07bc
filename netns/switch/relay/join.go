package relay

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// HalfCloser is a connection whose two directions end by themselves.
type HalfCloser interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// Resetter is a connection that can be reset by other means than SO_LINGER.
type Resetter interface{ Abort() }

// Join copies both ways until both have ended. The end of one direction is passed on as such; a reset ends both.
func Join(a, b HalfCloser) {
	var both sync.WaitGroup
	way := func(to, from HalfCloser) {
		err := pump(to, from)
		if err == nil {
			err = to.CloseWrite()
		}
		if err != nil {
			reset(to)
			reset(from)
		}
	}
	both.Go(func() { way(a, b) })
	way(b, a)
	both.Wait()
	_ = a.Close() // both directions have ended
	_ = b.Close() // likewise
}

// reset ends a connection so that the other side sees that something went wrong.
func reset(c HalfCloser) {
	switch t := c.(type) {
	case *net.TCPConn:
		_ = t.SetLinger(0) // a closed one needs no reset
	case Resetter:
		t.Abort()
	}
	_ = c.Close() // likewise
}

// A piece that is carried at once: large, since the kernel carries pieces of this size between containers too. What a slow reader leaves waits in the kernel, of which all of them have a share; ours are
// pieces of about leastPiece.
const (
	mostPiece  = 512 << 10
	leastPiece = 16 << 10
)

// buffers are lent to a direction while it has something to carry, so that connections that wait have none.
var buffers = sync.Pool{New: func() any { b := make([]byte, mostPiece); return &b }}

// pump copies one way, until the end of from (nil) or an error.
func pump(to, from HalfCloser) error {
	source, ok := from.(*net.TCPConn)
	if !ok {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *b)
		return err
	}
	in, err := source.SyscallConn()
	if err != nil {
		return err
	}
	var out syscall.RawConn // nil: it knows only Write
	if target, ok := to.(*net.TCPConn); ok {
		if out, err = target.SyscallConn(); err != nil {
			return err
		}
	}
	for {
		b, n, err := take(in, fits(out))
		if err != nil || n == 0 {
			return err
		}
		if err := give(to, out, b, n); err != nil {
			return err
		}
	}
}

// take waits for something to read, and returns a lent buffer with up to most bytes of it; n is 0 at the end.
func take(in syscall.RawConn, most int) (b *[]byte, n int, err error) {
	var failed error
	err = in.Read(func(fd uintptr) bool {
		b = buffers.Get().(*[]byte)
		n, failed = again(func() (int, error) { return unix.Read(int(fd), (*b)[:most]) })
		if errors.Is(failed, unix.EAGAIN) {
			buffers.Put(b)
			b = nil
			return false
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if b != nil && (err != nil || n == 0) {
		buffers.Put(b)
	}
	return b, n, err
}

// give writes what is in a lent buffer, and takes it back. What the other side has no room for now waits in a piece of its own size.
func give(to io.Writer, out syscall.RawConn, lent *[]byte, n int) (err error) {
	b := (*lent)[:n]
	if out != nil {
		var failed error
		err = out.Write(func(fd uintptr) bool {
			n, failed = again(func() (int, error) { return unix.Write(int(fd), b) })
			return true
		})
		if err == nil && failed != nil && !errors.Is(failed, unix.EAGAIN) {
			err = failed
		}
		b = b[max(n, 0):]
		if err == nil && len(b) > 0 {
			b = slices.Clone(b)
		}
		buffers.Put(lent)
	} else {
		defer buffers.Put(lent)
	}
	if err == nil && len(b) > 0 {
		_, err = to.Write(b)
	}
	return err
}

// fits is about how much a connection takes without waiting.
func fits(out syscall.RawConn) int {
	if out == nil {
		return mostPiece
	}
	free := 0
	err := out.Control(func(fd uintptr) {
		size, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		queued, err2 := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if err == nil && err2 == nil {
			free = size - queued
		}
	})
	if err != nil {
		return leastPiece // it is closed, which writing will say
	}
	return min(max(free, leastPiece), mostPiece)
}

// again calls f until no signal comes between.
func again(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
