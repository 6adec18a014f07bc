package commands

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
)

// conversation is how a foreground verb (run, start -a, attach, exec) is connected to a process.
type conversation struct {
	streams    Streams
	tty        bool
	stdin      bool     // standard input is attached
	outputs    []string // which of stdout, stderr are; nil is both
	detachKeys string
	sigProxy   bool
	own        bool // the process is there for this command alone: run --rm, exec
}

// errNotTTY is Docker's sentence.
var errNotTTY = errors.New("the input device is not a TTY")

// hold opens a conversation and keeps it until the process ends, or the user types the detach keys. It returns the
// process's exit code as an exitCode error, nil for 0. The terminal is as it was when it returns.
func (v conversation) hold(ctx context.Context, open func(*run.Streams) (*run.Session, error)) error {
	keys, err := parseDetachKeys(v.detachKeys)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 64)
	switch {
	case v.tty:
		signal.Notify(signals, v.usual()...) // before the size is read: a later one is heard of
	case v.sigProxy:
		// Each signal costs the runtime a round trip between threads. Those that people send before anything has happened come first; those that make sense to a
		// container that runs while it begins to; and the rest when it is no short-lived one. Nothing takes them back: the process ends with the conversation.
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	}
	s := &run.Streams{Tty: v.tty}
	if v.tty {
		s.Rows, s.Cols = terminalSize(v.streams.Out)
		if s.Rows == 0 {
			s.Rows, s.Cols = terminalSize(v.streams.In)
		}
	} else {
		v.attach(s)
	}
	session, err := open(s)
	if err != nil {
		return err
	}
	defer session.Close()
	go func() {
		if v.sigProxy && !v.tty {
			signal.Notify(signals, v.usual()...)
		}
		v.relaySignals(session, signals)
	}()
	if v.sigProxy {
		time.AfterFunc(20*time.Millisecond, func() { signal.Notify(signals, v.wanted()...) })
	}
	if v.tty {
		return v.relayTerminal(ctx, session, keys)
	}
	gone := watchReader(s)
	if gone == nil {
		return ended(session.Wait())
	}
	done := make(chan error, 1)
	go func() { done <- ended(session.Wait()) }()
	select {
	case err := <-done:
		return err
	case <-gone:
		return v.abandon(session, done)
	}
}

// abandon ends a conversation whose output nobody reads any more, with the code of a process that SIGPIPE ended. A process that
// is there only for this command ends with it; one that others may attach to goes on, as Docker's do.
func (v conversation) abandon(session *run.Session, done <-chan error) error {
	for _, sig := range []unix.Signal{unix.SIGPIPE, unix.SIGKILL} {
		select {
		case err := <-done: // it was about to end anyway
			return err
		case <-time.After(50 * time.Millisecond):
		}
		if v.own {
			_ = session.Signal(sig) // it may just have ended
		}
	}
	if v.own {
		<-done
	}
	return exitCode(128 + int(unix.SIGPIPE))
}

// attach names the streams that are handed over.
func (v conversation) attach(s *run.Streams) {
	if v.stdin {
		s.Stdin = v.streams.In
	}
	if v.outputs == nil {
		s.Stdout, s.Stderr = v.streams.Out, v.streams.Err
	}
	for _, name := range v.outputs {
		switch name {
		case "stdout":
			s.Stdout = v.streams.Out
		case "stderr":
			s.Stderr = v.streams.Err
		}
	}
}

// usual are the signals that people and supervisors send.
func (v conversation) usual() []os.Signal {
	if !v.sigProxy {
		return []os.Signal{unix.SIGWINCH}
	}
	return []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGUSR1, unix.SIGUSR2}
}

// wanted is every signal there is to pass on: not those that say something about this process only (a child, a broken
// pipe, Go's own preemption), nor those that stop it, which the shell sends to the job and means us.
func (v conversation) wanted() []os.Signal {
	var all []os.Signal
	for n := unix.Signal(1); n < 65; n++ {
		switch n {
		case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG, unix.SIGKILL, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT,
			32, 33, 34: // the C library's
		default:
			all = append(all, n)
		}
	}
	return all
}

// relaySignals passes signals on: the window's size as a size, the others as they are.
func (v conversation) relaySignals(session *run.Session, signals <-chan os.Signal) {
	for sig := range signals {
		number, _ := sig.(unix.Signal)
		switch {
		case number == unix.SIGWINCH && v.tty:
			if rows, cols := terminalSize(v.streams.Out); rows > 0 {
				_ = session.Resize(rows, cols) // it may just have ended
			}
		case number != unix.SIGWINCH:
			_ = session.Signal(number) // likewise
		}
	}
}

// relayTerminal copies keys one way and output the other until the process or the user is done.
func (v conversation) relayTerminal(ctx context.Context, session *run.Session, keys []byte) error {
	raw, err := rawTerminal(v.streams.In)
	if err != nil {
		return err
	}
	defer raw.restore()
	detached, output := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(output)
		_, _ = io.Copy(v.streams.Out, session.Tty()) // until the process's side closes
	}()
	if v.stdin {
		go func() {
			_, err := io.Copy(session.Tty(), &detachReader{r: v.streams.In, keys: keys})
			if errors.Is(err, errDetach) {
				close(detached)
			}
		}()
	}
	done := make(chan error, 1)
	go func() { done <- ended(session.Wait()) }()
	select {
	case err := <-done:
		<-output
		return err
	case <-detached:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ended turns a process's end into the command's.
func ended(code int, err error) error {
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}
