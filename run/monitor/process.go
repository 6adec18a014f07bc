package monitor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/log"
	"github.com/skiff-containers/skiff/run/oci"
)

// chunk is how much output is read at once, in bytes.
const chunk = 64 << 10

// process is a process of the container with its streams.
type process struct {
	oci.Process
	log   *log.Writer // nil: not logged (exec)
	stdin *os.File    // our end of its standard input; nil when closed or with a terminal
	held  bool        // its standard input stays open when a client's ends: others may attach
	out   [2]*os.File // our ends of its standard output and error

	mu    sync.Mutex
	sinks []*sink

	copying sync.WaitGroup
	moves   atomic.Uint64 // steps that copyOut made
	handing atomic.Int32  // outputs whose bytes a client is being given
	hurry   chan struct{} // closed when somebody wants its end: slow readers are not waited for any more
	hurried sync.Once
	done    chan struct{} // closed when it has ended and its output is complete
	code    int
}

func newProcess(l *log.Writer) *process {
	return &process{log: l, hurry: make(chan struct{}), done: make(chan struct{})}
}

// pipes makes the three pipes of a process without terminal: theirs are the process's ends.
func (p *process) pipes(wantStdin bool) (theirs [3]*os.File, err error) {
	closeAll := func() {
		for _, f := range []*os.File{theirs[0], theirs[1], theirs[2], p.stdin, p.out[0], p.out[1]} {
			if f != nil {
				f.Close()
			}
		}
	}
	if wantStdin {
		if theirs[0], p.stdin, err = os.Pipe(); err != nil {
			return theirs, err
		}
	}
	for i := range p.out {
		if p.out[i], theirs[i+1], err = os.Pipe(); err != nil {
			closeAll()
			return theirs, err
		}
	}
	return theirs, nil
}

// lastGrace is how long a reader that takes nothing may still keep the end of a process that somebody has stopped.
const lastGrace = time.Second

// end says that somebody wants the process's end.
func (p *process) end() { p.hurried.Do(func() { close(p.hurry) }) }

// signal sends a signal; one that leaves the process no choice, or that it is no more there to get, says that its end is wanted.
func (p *process) signal(sig unix.Signal) error {
	err := p.Signal(sig)
	if sig == unix.SIGKILL || errors.Is(err, unix.ESRCH) {
		p.end()
	}
	return err
}

// over says whether the process has ended or is about to: the kernel takes the root directory away first, long before it is a zombie.
func (p *process) over() bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/root", p.Pid()))
	return errors.Is(err, os.ErrNotExist)
}

// run starts the copying. Clients that are to see everything are attached before.
func (p *process) run() {
	if console := p.Console(); console != nil {
		p.copying.Go(func() { p.copyOut(console, false) })
	} else {
		for i, f := range p.out {
			if f != nil {
				p.copying.Go(func() { p.copyOut(f, i == 1) })
			}
		}
	}
}

// wait waits for the end of the process and of its output. Somebody else may hold the other end open (a background child of an exec, a
// shared pid namespace), so after the end the output gets only a moment. A client that reads slowly (a pager) is no such case: it gets everything, or goes. But
// one that takes nothing does not keep a process from its end that somebody stops, kills, or signals when it has ended.
func (p *process) wait(grace time.Duration) int {
	code, err := p.Wait()
	if err != nil {
		code = 255
	}
	drained := make(chan struct{})
	go func() { p.copying.Wait(); close(drained) }()
	hurry, patient := p.hurry, true
	for waiting := true; waiting; {
		before := p.moves.Load()
		select {
		case <-drained:
			waiting = false
		case <-hurry:
			hurry, patient, grace = nil, false, min(grace, lastGrace)
		case <-time.After(grace):
			waiting = patient && (p.handing.Load() > 0 || p.unread()) || p.moves.Load() != before
		}
	}
	// What has been read and not handed on yet is; nothing more is read.
	for _, f := range []*os.File{p.out[0], p.out[1], p.Console()} {
		if f != nil {
			_ = f.SetReadDeadline(time.Unix(1, 0)) // a terminal may have none, and is closed below
		}
	}
	if patient {
		select {
		case <-drained:
		case <-time.After(grace):
		}
	}
	p.code = code
	for _, f := range []*os.File{p.stdin, p.out[0], p.out[1], p.Console()} {
		if f != nil {
			f.Close()
		}
	}
	close(p.done)
	return code
}

// unread says whether there is output that nobody has taken yet: on a busy machine the copying may not get to run for longer than a moment.
func (p *process) unread() bool {
	for _, f := range []*os.File{p.out[0], p.out[1], p.Console()} {
		if f == nil {
			continue
		}
		n := 0
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // an error leaves 0
		}
		if err == nil && n > 0 {
			return true
		}
	}
	return false
}

// copyOut copies one output to the log and to everybody attached, until it ends.
func (p *process) copyOut(from *os.File, stderr bool) {
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.handing.Add(1)
			p.moves.Add(1)
			if p.log != nil {
				p.log.Write(stderr, buf[:n])
			}
			now := buf[:n]
			for _, s := range p.attached(stderr) {
				if !s.write(now) {
					buf = make([]byte, chunk) // the sink's writer may still hold the old one
				}
			}
			p.handing.Add(-1)
		}
		if err != nil {
			return // EOF; EIO of a terminal whose last process has gone
		}
	}
}

func (p *process) attached(stderr bool) []*sink {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*sink
	for _, s := range p.sinks {
		if s.stderr == stderr {
			list = append(list, s)
		}
	}
	return list
}

// sink is one attached client's end of an output.
type sink struct {
	file   *os.File
	stderr bool
	work   chan []byte
	ready  chan bool
	gone   chan struct{}
	once   sync.Once
	failed atomic.Pointer[error] // why output could not be written, when that was not because the reader had gone
}

// attach adds a sink for an output. The descriptor is the client's own and may block for ever, so a goroutine of its own writes to it.
func (p *process) attach(f *os.File, stderr bool) *sink {
	s := &sink{file: f, stderr: stderr, work: make(chan []byte), ready: make(chan bool, 1), gone: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-s.work:
				_, err := s.file.Write(b)
				s.ready <- err == nil
				if err != nil {
					if !errors.Is(err, unix.EPIPE) {
						s.failed.Store(&err)
					}
					s.drop()
				}
			case <-s.gone:
				s.file.Close()
				return
			}
		}
	}()
	p.mu.Lock()
	p.sinks = append(p.sinks, s)
	p.mu.Unlock()
	return s
}

// write hands b to the client and waits until it is written or the client is gone; false says that b may still be in use.
func (s *sink) write(b []byte) bool {
	select {
	case s.work <- b:
	case <-s.gone:
		return true
	}
	select {
	case <-s.ready:
		return true
	case <-s.gone:
		return false
	}
}

// lost says which output the client did not get all of, and why; "" when there is none.
func (s *sink) lost() string {
	failed := s.failed.Load()
	if failed == nil {
		return ""
	}
	name, err := "output", *failed
	if s.stderr {
		name = "error"
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Sprintf("cannot write standard %s: %v", name, err)
}

func (s *sink) drop() { s.once.Do(func() { close(s.gone) }) }

// detach removes sinks.
func (p *process) detach(sinks []*sink) {
	p.mu.Lock()
	p.sinks = slices.DeleteFunc(p.sinks, func(s *sink) bool { return slices.Contains(sinks, s) })
	p.mu.Unlock()
	for _, s := range sinks {
		s.drop()
	}
}

// feed copies a client's standard input to the process until it ends or stop is closed; at its end the process's input is closed, unless that is held. The descriptor is shared with
// the client's shell: it is looked at before it is read, so that nothing is taken that the process will not get.
func (p *process) feed(from *os.File, stop *os.File) {
	buf := make([]byte, chunk)
	fd := int(from.Fd())
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		if poll[1].Revents != 0 {
			return
		}
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := p.stdin.Write(buf[:n]); err != nil {
				return // it has closed its input
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) && !p.held {
				p.stdin.Close()
			}
			return
		}
	}
}

// resize sets the terminal's size.
func (p *process) resize(rows, cols uint16) error {
	console := p.Console()
	if console == nil || rows == 0 && cols == 0 {
		return nil
	}
	raw, err := console.SyscallConn()
	if err != nil {
		return err
	}
	var ioErr error
	if err := raw.Control(func(fd uintptr) {
		ioErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}); err != nil {
		return err
	}
	return ioErr
}
