package run

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/stage"
)

// Session is a conversation with a container's process through its monitor.
type Session struct {
	conn *stage.Conn
	tty  *os.File
	lost func() (int, error) // what became of the process when the monitor went without a word
	once sync.Once
	code int
	err  error
}

// ErrFailed is a monitor's refusal: Code is the exit code that the command should have (125, 126 or 127).
type ErrFailed struct {
	Text, Hint string
	Code       int
}

func (e *ErrFailed) Error() string { return e.Text }

// HintText is what the user can do; commands print it on a line of its own.
func (e *ErrFailed) HintText() string { return e.Hint }

// ExitCode is the code that the command should have.
func (e *ErrFailed) ExitCode() int { return e.Code }

// failedCode is the exit code of a command whose process succeeded while some of its output was lost.
const failedCode = 125

// errGone says that a monitor ended as it was asked.
var errGone = errors.New("the container's monitor ended before it answered")

// open sends a request with the streams it is about and waits for its first answer.
func (h *Host) open(conn *stage.Conn, req stage.Request, s *Streams, lost func() (int, error)) (*Session, error) {
	session := &Session{conn: conn, lost: lost}
	var files []*os.File
	if s != nil {
		req.Rows, req.Cols = s.Rows, s.Cols
		if s.Tty {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return nil, fmt.Errorf("cannot connect to the terminal: %w", err)
			}
			session.tty = os.NewFile(uintptr(fds[0]), "tty")
			theirs := os.NewFile(uintptr(fds[1]), "tty")
			defer theirs.Close()
			req.Tty, files = true, []*os.File{theirs}
		} else {
			for _, f := range []struct {
				file *os.File
				flag *bool
			}{{s.Stdin, &req.Stdin}, {s.Stdout, &req.Stdout}, {s.Stderr, &req.Stderr}} {
				if f.file != nil {
					*f.flag, files = true, append(files, f.file)
				}
			}
		}
	}
	var reply stage.Reply
	err := conn.Send(req, files...)
	waits := req.Op == stage.OpWait || req.Op == stage.OpStop
	if waits && errors.Is(err, unix.EPIPE) {
		return session, nil // it is just ending, and that is what is waited for
	}
	if err == nil && !waits {
		if reply, err = h.answer(conn); errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			err = errGone
		}
	}
	if errors.Is(err, unix.EPIPE) {
		err = errGone
	}
	if err == nil && reply.Kind == stage.Failed {
		err = &ErrFailed{reply.Error, reply.Hint, reply.Code}
	}
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return session, nil
}

// Tty carries a terminal's both directions.
func (s *Session) Tty() io.ReadWriter { return s.tty }

// Signal sends a signal to the process.
func (s *Session) Signal(sig unix.Signal) error {
	return s.conn.Send(stage.Request{Op: stage.OpSignal, Signal: int(sig)})
}

// Resize tells the process's terminal its size.
func (s *Session) Resize(rows, cols uint16) error {
	return s.conn.Send(stage.Request{Op: stage.OpResize, Rows: rows, Cols: cols})
}

// Wait waits until the process has ended and returns its exit code.
func (s *Session) Wait() (int, error) {
	s.once.Do(func() {
		for {
			var r stage.Reply
			_, err := s.conn.Receive(&r)
			switch {
			case err != nil:
				s.code, s.err = s.lost()
				return
			case r.Kind == stage.Exit:
				s.code = r.Code
				if r.Error != "" { // some of the output was lost
					s.err = &ErrFailed{Text: r.Error, Code: cmp.Or(r.Code, failedCode)}
				}
				return
			}
		}
	})
	return s.code, s.err
}

// Close detaches.
func (s *Session) Close() error {
	err := s.conn.Close()
	if s.tty != nil {
		err = errors.Join(err, s.tty.Close())
	}
	return err
}
