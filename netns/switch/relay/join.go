package relay

import (
	"errors"
	"io"
	"net"
	"sync"

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

const bufferSize = 128 << 10

// buffers are lent to a direction while it has something to carry, so that connections that wait have none.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// pump copies one way, until the end of from (nil) or an error.
func pump(to, from HalfCloser) error {
	source, ok := from.(*net.TCPConn)
	if !ok {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *b)
		return err
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var b *[]byte
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			b = buffers.Get().(*[]byte)
			for {
				if n, failed = unix.Read(int(fd), *b); !errors.Is(failed, unix.EINTR) {
					break
				}
			}
			if errors.Is(failed, unix.EAGAIN) {
				buffers.Put(b)
				return false
			}
			return true
		})
		if err != nil {
			return err
		}
		if failed == nil && n > 0 {
			_, failed = to.Write((*b)[:n])
		} else if failed == nil {
			buffers.Put(b)
			return nil
		}
		buffers.Put(b)
		if failed != nil {
			return failed
		}
	}
}
