package inside

// Networks of tests: threads in network namespaces, and servers on the loopback of the process's own, which plays the host.

import (
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Thread is a thread in a network namespace of its own, until the end of the test.
type Thread chan func()

// NewThread starts one.
func NewThread(t *testing.T) Thread {
	t.Helper()
	i := make(Thread)
	go func() {
		runtime.LockOSThread() // and never unlocked
		for f := range i {
			f()
		}
	}()
	t.Cleanup(func() { close(i) })
	i.Do(t, func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	return i
}

// Do runs f on the thread; an error ends the test.
func (i Thread) Do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	i <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Host listens at an address of the host's ("127.0.0.1:0") and hands one connection to f, the error of which comes back.
func Host(t *testing.T, at string, f func(*net.TCPConn) error) (port int, result <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", at) //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // at the end of the test
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = errors.Join(conn.SetDeadline(time.Now().Add(time.Minute)), f(conn.(*net.TCPConn)))
		}
		done <- err
	}()
	return l.Addr().(*net.TCPAddr).Port, done
}
