package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/spec"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/volume"
)

// conversation is one control connection and the process it is about.
type conversation struct {
	conn    *stage.Conn
	process *process
	mu      sync.Mutex // one reply at a time
	sinks   []*sink
	stop    *os.File // closing its other end ends feed
	cancel  *os.File
	answer  sync.Once
	stays   bool   // it is about the container, not about one life of it
	halt    func() // of a conversation about the container's first process: somebody wants its end
}

func (m *monitor) converse(conn *stage.Conn, p *process) *conversation {
	return &conversation{conn: conn, process: p}
}

// accept takes connections until the listener is closed, which the end of the process does.
func (m *monitor) accept(l *stage.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go m.handle(conn)
	}
}

// handle reads a connection's first request.
func (m *monitor) handle(conn *stage.Conn) {
	var req stage.Request
	files, err := conn.Receive(&req)
	if err != nil {
		conn.Close()
		return
	}
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	c := m.converse(conn, p)
	c.halt = m.stopRestarting
	switch req.Op {
	case stage.OpAttach:
		c.attach(req, files)
		c.reply(stage.Reply{Kind: stage.Attached, Pid: p.Pid()})
		c.serve(m)
	case stage.OpWait:
		c.stays = true
		c.serve(m)
	case stage.OpExec:
		m.exec(c, req, files)
	case stage.OpConnect, stage.OpDisconnect:
		c.reply(m.rewire(req, conn))
		conn.Close()
	case stage.OpUpdate:
		c.reply(answered(m.update(req)))
		conn.Close()
	case stage.OpHold:
		m.hold(conn)
	case stage.OpRestart:
		old, err := m.renew(c)
		switch {
		case err != nil:
			c.reply(answered(err))
			conn.Close()
		case old != nil:
			go m.stop(old, unix.Signal(req.Signal), req.Timeout)
		}
	case stage.OpStop:
		c.stays = true
		c.serve(m)
		m.stopRestarting()
		go m.stop(p, unix.Signal(req.Signal), req.Timeout)
	default:
		c.reply(c.act(m, req))
		conn.Close()
	}
}

// rewire changes the container's networks.
func (m *monitor) rewire(req stage.Request, conn *stage.Conn) stage.Reply {
	var warning string
	var err error
	switch {
	case req.Place == nil:
		err = errors.New("cannot change the networks: none is named")
	case req.Op == stage.OpConnect:
		warning, err = m.joinNetwork(*req.Place, &front{conn})
	default:
		err = m.leaveNetwork(req.Place.Network)
	}
	r := answered(err)
	r.Warning = warning
	return r
}

// answered is the reply to a request that was done, or not.
func answered(err error) stage.Reply {
	if err == nil {
		return stage.Reply{Kind: stage.Ok}
	}
	r := stage.Reply{Kind: stage.Failed, Error: err.Error(), Code: codeOurs}
	var hint interface{ HintText() string }
	if errors.As(err, &hint) {
		r.Hint = hint.HintText()
	}
	return r
}

// attach connects a client's descriptors with the process's streams.
func (c *conversation) attach(req stage.Request, files []*os.File) {
	next := func(wanted bool) *os.File {
		if !wanted || len(files) == 0 {
			return nil
		}
		f := files[0]
		files = files[1:]
		return f
	}
	p := c.process
	if req.Tty {
		if f := next(true); f != nil {
			c.sinks = append(c.sinks, p.attach(f, false))
			_ = p.resize(req.Rows, req.Cols) // a terminal of unknown size works too
			go c.relayInput(f)
		}
		return
	}
	stdin := next(req.Stdin)
	if f := next(req.Stdout); f != nil {
		c.sinks = append(c.sinks, p.attach(f, false))
	}
	if f := next(req.Stderr); f != nil {
		c.sinks = append(c.sinks, p.attach(f, true))
	}
	if stdin != nil && p.stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			stdin.Close()
			return
		}
		c.stop, c.cancel = r, w
		go func() { p.feed(stdin, r); stdin.Close(); r.Close() }()
	}
}

// relayInput copies what comes from a terminal client to the console.
func (c *conversation) relayInput(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if _, err := c.process.Console().Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// release drops the client's streams.
func (c *conversation) release() {
	c.process.detach(c.sinks)
	if c.cancel != nil {
		c.cancel.Close()
	}
}

// serve reads further requests in the background until the client goes, and answers the end of the process.
func (c *conversation) serve(m *monitor) {
	if c.halt != nil {
		m.mu.Lock()
		m.open = append(m.open, c)
		m.mu.Unlock()
	}
	go func() {
		for {
			var req stage.Request
			files, err := c.conn.Receive(&req)
			for _, f := range files {
				f.Close()
			}
			if err != nil || req.Op == stage.OpDetach {
				break
			}
			if r := c.act(m, req); r.Kind != stage.Ok {
				c.reply(r)
			}
		}
		c.release()
		m.forget(c)
	}()
}

// act does a request that needs no conversation.
func (c *conversation) act(m *monitor, req stage.Request) stage.Reply {
	var err error
	switch req.Op {
	case stage.OpSignal:
		if c.halt != nil && m.ends(unix.Signal(req.Signal)) {
			c.halt()
		}
		err = c.process.signal(unix.Signal(req.Signal))
	case stage.OpResize:
		err = c.process.resize(req.Rows, req.Cols)
	case stage.OpPing:
	default:
		err = fmt.Errorf("cannot do %q here", req.Op)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return stage.Reply{Kind: stage.Failed, Error: err.Error(), Code: codeOurs}
	}
	return stage.Reply{Kind: stage.Ok}
}

func (c *conversation) reply(r stage.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.Send(r) // a client that has gone needs no answer
}

// exited answers the end of the process, once.
func (c *conversation) exited(code int) {
	c.answer.Do(func() {
		r := stage.Reply{Kind: stage.Exit, Code: code}
		for _, s := range c.sinks {
			r.Error = cmp.Or(r.Error, s.lost())
		}
		c.reply(r)
		c.conn.Close()
	})
}

func (m *monitor) forget(c *conversation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = slices.DeleteFunc(m.open, func(o *conversation) bool { return o == c })
}

// answer tells those who wait for the container that it has ended; when it will live again, only those whom one life concerns.
func (m *monitor) answer(code int, forGood bool) {
	m.mu.Lock()
	open := slices.Clone(m.open)
	m.mu.Unlock()
	for _, c := range open {
		if forGood || !c.stays {
			c.exited(code)
		}
	}
}

// stop sends the signal and, when the timeout is over, SIGKILL.
func (m *monitor) stop(p *process, sig unix.Signal, timeout time.Duration) {
	_ = p.signal(sig) // ESRCH: it has just ended
	if timeout < 0 {
		return
	}
	defer p.end()
	select {
	case <-p.done:
	case <-time.After(timeout):
		_ = p.signal(unix.SIGKILL) // likewise
	}
}

// exec adds a process to the container.
func (m *monitor) exec(c *conversation, req stage.Request, files []*os.File) {
	c.halt = nil
	p, err := m.spawn(req)
	if err != nil && c.process.over() {
		err = m.notRunning() // the kernel's words for that are many
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		fail(c.conn, err)
		return
	}
	m.emit("exec_start: "+strings.Join(req.Exec.Args, " "), nil)
	c.process = p
	c.attach(req, files)
	p.run()
	c.reply(stage.Reply{Kind: stage.Started, Pid: p.Pid()})
	if req.Exec.Detach {
		c.conn.Close()
	} else {
		c.serve(m)
	}
	code := p.wait(execGrace)
	m.emit("exec_die", map[string]string{"exitCode": fmt.Sprint(code)})
	c.exited(code)
}

// execGrace is how long the output of an exec'd process may lag behind its end, when a child of it holds the streams open.
const execGrace = 200 * time.Millisecond

func (m *monitor) spawn(req stage.Request) (*process, error) {
	e := req.Exec
	if e == nil || len(e.Args) == 0 {
		return nil, errors.New("cannot execute: no command")
	}
	now, err := m.current()
	if err != nil {
		return nil, err
	}
	root, err := now.container.Root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	base := *now.spec.Process
	user := spec.User{UID: base.User.UID, GID: base.User.GID, Groups: base.User.AdditionalGids}
	if e.User != "" {
		if user, err = spec.LookupUser(root, e.User, nil); err != nil {
			return nil, err
		}
	}
	pr := specs.Process{
		Terminal: e.Tty, Args: e.Args, Cwd: base.Cwd, Rlimits: base.Rlimits, NoNewPrivileges: base.NoNewPrivileges, Capabilities: base.Capabilities,
		User: specs.User{UID: user.UID, GID: user.GID, AdditionalGids: user.Groups, Umask: base.User.Umask},
	}
	if e.Workdir != "" {
		pr.Cwd = e.Workdir
	}
	filter := now.filter
	if e.Privileged {
		pr.Capabilities, err = spec.Privileged()
		filter = nil
		if err != nil {
			return nil, err
		}
	}
	pr.Env = spec.ExecEnvironment(base.Env, e.Env, user, e.User != "", e.Tty)
	if e.Tty && req.Rows > 0 {
		pr.ConsoleSize = &specs.Box{Height: uint(req.Rows), Width: uint(req.Cols)}
	}
	p := newProcess(nil)
	var stdio [3]*os.File
	if !e.Tty && !e.Detach {
		if stdio, err = p.pipes(e.Stdin); err != nil {
			return nil, fmt.Errorf("cannot make the process's streams: %w", err)
		}
	}
	dirs, groupFD := places(now.group)
	op, err := now.container.Exec(context.Background(), oci.Exec{Process: &pr, Stdio: stdio, Filter: filter, Cgroup: dirs, CgroupFD: groupFD})
	for _, f := range stdio {
		if f != nil {
			f.Close()
		}
	}
	if err != nil {
		for _, f := range []*os.File{p.stdin, p.out[0], p.out[1]} {
			if f != nil {
				f.Close()
			}
		}
		return nil, err
	}
	p.Process = op
	return p, nil
}

// removeAnonymous removes the volumes that were made for a --rm container.
func (m *monitor) removeAnonymous() error {
	set := volume.Open(m.store.Data)
	var errs []error
	for _, name := range m.record.Anonymous {
		if err := set.Remove(name); err != nil && !errors.Is(err, volume.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// places are where a process of the container enters its control groups: directories to join (v1), or one to be born in (v2).
func places(g *cgroup.Group) (dirs []string, fd *os.File) {
	if g == nil {
		return nil, nil
	}
	return g.Dirs, g.FD
}
