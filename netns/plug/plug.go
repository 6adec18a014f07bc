// Package plug is the monitor's end of the cable to the switch: it finds the user's switch or starts one, asks it to connect a container, and hears when it has
// gone. The switch itself is package netns/switch, in the engine; this one is small, since the monitor links it.
package plug

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/fork"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Dir is the switch's directory in the runtime directory: pid and alive announce it as a member of the user namespace, sock is where it is asked.
func Dir(run string) string { return filepath.Join(run, "switch") }

// Files of Dir.
const (
	Alive = "alive"
	Pid   = "pid"
	Sock  = "sock"
)

// Operations of a Request.
const (
	OpAttach  = "attach"  // connect a container; the connection's end disconnects it
	OpConnect = "connect" // one more network for a container that was attached on this connection
	OpDetach  = "detach"  // one network less
	OpLend    = "lend"    // sockets of ports, for the attach that follows
	OpRetire  = "retire"  // let go of the container's ports: it has ended
)

// Request is what a monitor asks. With OpAttach come the container's network namespace and, when there was another switch before, that one's.
type Request struct {
	Op        string  `json:"op"`
	Container string  `json:"container"`
	Places    []Place `json:"places,omitzero"`
	Ports     []Port  `json:"ports,omitzero"`
	Network   string  `json:"network,omitzero"`       // of OpDetach: the id
	Default   string  `json:"default,omitzero"`       // of OpDetach: the id of the network whose gateway is the default route of IPv4 from then on
	Default6  string  `json:"default6,omitzero"`      // likewise, of IPv6
	Loopback  bool    `json:"host_loopback,omitzero"` // the container may reach the host's loopback
	Lent      []int   `json:"lent,omitzero"`          // of OpLend: the places of ports whose sockets come along
	Keep      int     `json:"keep,omitzero"`          // of OpAttach: how many of the sockets that are made for it the monitor takes
}

// Place is one network that a container is on.
type Place struct {
	Network  netns.Network  `json:"network"`
	Endpoint netns.Endpoint `json:"endpoint"`
	Default  bool           `json:"default,omitzero"`  // its gateway is the default route of IPv4
	Default6 bool           `json:"default6,omitzero"` // and of IPv6
	DNS      []string       `json:"dns,omitzero"`      // resolvers of the container's own; none are the host's
	// Hosts are names of the container's /etc/hosts that are no container's: the host's, and those of --add-host. Who asks the name server instead of the file gets the same answer.
	Hosts map[string][]netip.Addr `json:"hosts,omitzero"`
}

// Port is one published port, or a range of them.
type Port struct {
	IP        netip.Addr `json:"ip,omitzero"`       // of the host; invalid is all of them
	Host      uint16     `json:"host"`              // 0 in a request is any free one
	HostEnd   uint16     `json:"host_end,omitzero"` // the last of a range to choose from, which begins with Host
	Container uint16     `json:"container"`
	Count     uint16     `json:"count,omitzero"` // of a range that begins here, on both sides; 0 is one
	Protocol  string     `json:"protocol"`       // tcp or udp
}

// Reply is the switch's answer: with OpAttach its own network namespace comes with it.
type Reply struct {
	Error string `json:"error,omitzero"`
	Hint  string `json:"hint,omitzero"`
	Ports []Port `json:"ports,omitzero"` // as they were published
	// Parent is the name of a macvlan network whose parent is not in the switch's network namespace: nothing was done. Whoever can put it there asks once more.
	Parent string `json:"parent,omitzero"`
	// Kept are the places of ports whose sockets come along, for the monitor to keep: no answer, but what OpAttach is followed by when there is time.
	Kept []int `json:"kept,omitzero"`
	// Denied are the places (of single ports) that the switch may not bind: nothing was done. Whoever can bind them lends their sockets and asks once more.
	Denied []int `json:"denied,omitzero"`
}

// Cable is a connection to the switch. The container that was attached on it stays so for as long as it is open.
type Cable struct {
	conn    *stage.Conn
	sockets *Sockets
	space   *os.File      // the switch's network namespace
	replies chan Reply    // of a container that is attached: read hands them on
	gone    chan struct{} // closed when the switch has gone

	asking   chan struct{} // full while there is a question: one at a time
	attached bool
}

func newCable(conn *stage.Conn, o Options) *Cable {
	c := &Cable{conn: conn, sockets: o.Sockets, replies: make(chan Reply, 1), gone: make(chan struct{}), asking: make(chan struct{}, 1)}
	if c.sockets == nil {
		c.sockets = &Sockets{}
	}
	return c
}

// Options of Connect.
type Options struct {
	Data, Run string   // record.Store's
	Engine    string   // the engine, which is the switch where there is no program of its own
	Space     *os.File // the network namespace of a switch before, to be taken over; may be nil
	Sockets   *Sockets // of the container's ports; may be nil
}

// EngineName is the engine's file in a split installation (commands). The switch is in its directory.
const EngineName = "skiff-engine"

// program is the executable that is the switch: the one beside the engine, which starts in a third of the time, or the engine.
func (o Options) program() string {
	if filepath.Base(o.Engine) == EngineName {
		own := filepath.Join(filepath.Dir(o.Engine), stage.Switch)
		if unix.Access(own, unix.X_OK) == nil {
			return own
		}
	}
	return o.Engine
}

// patience is how long a switch may take to start.
const patience = 20 * time.Second

// Connect finds the user's switch, or starts it. It runs in a monitor, inside the user namespace.
func Connect(o Options) (*Cable, error) {
	if err := awaitOther(Dir(o.Run)); err != nil {
		return nil, err
	}
	sock := filepath.Join(Dir(o.Run), Sock)
	if conn, err := stage.Dial(sock); err == nil {
		return newCable(conn, o), nil
	}
	if err := os.MkdirAll(Dir(o.Run), 0o700); err != nil {
		return nil, fmt.Errorf("cannot start the network switch: %w", err)
	}
	lock, err := disk.WaitLock(filepath.Join(Dir(o.Run), "starting"), disk.Exclusive, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot start the network switch: %w", err)
	}
	defer lock.Unlock()
	if conn, err := stage.Dial(sock); err == nil {
		return newCable(conn, o), nil // somebody else was faster
	}
	if err := start(o); err != nil {
		return nil, err
	}
	conn, err := stage.Dial(sock)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the network switch: %w", err)
	}
	return newCable(conn, o), nil
}

// start starts a switch and waits until it says that it is ready: descriptor 3 is where it says so, 4 the namespace to take over.
func start(o Options) error {
	const what = "cannot start the network switch: %w"
	channel, err := fork.NewChannel()
	if err != nil {
		return fmt.Errorf(what, err)
	}
	said, ready, err := os.Pipe()
	if err != nil {
		channel.Close()
		return fmt.Errorf(what, err)
	}
	defer said.Close()
	defer ready.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		channel.Close()
		return fmt.Errorf(what, err)
	}
	defer null.Close()
	from := []int{int(null.Fd()), int(null.Fd()), int(null.Fd()), int(ready.Fd())}
	if o.Space != nil {
		from = append(from, int(o.Space.Fd()))
	}
	p := &fork.Program{}
	p.Call("make a session", unix.SYS_SETSID)
	p.Call("make a mount namespace", unix.SYS_UNSHARE, fork.Int(unix.CLONE_NEWNS))
	// By way of numbers above all in use, so that no dup3 overwrites a source.
	above := max(slices.Max(from), channel.Number()) + 1
	for i, fd := range from {
		p.Call("pass a descriptor", unix.SYS_DUP3, fork.Int(fd), fork.Int(above+i), fork.Int(0))
	}
	for i := range from {
		p.Call("pass a descriptor", unix.SYS_DUP3, fork.Int(above+i), fork.Int(i), fork.Int(0))
	}
	p.Call("close descriptors", unix.SYS_CLOSE_RANGE, fork.Int(len(from)), fork.Int(uint32(0xffffffff)), fork.Int(unix.CLOSE_RANGE_CLOEXEC))
	args := []string{stage.Switch, o.Data, o.Run}
	if o.Space != nil {
		args = append(args, "adopt")
	}
	program := o.program()
	p.Call("execute "+program, unix.SYS_EXECVE, p.Str(program), p.Strings(args), p.Strings(environment()))
	child, err := fork.Start(p, channel, fork.Options{Sibling: true})
	if err != nil {
		return fmt.Errorf(what, err)
	}
	defer child.Channel.Close()
	defer child.PidFD.Close()
	if _, err := child.Report(); !errors.Is(err, io.EOF) {
		return fmt.Errorf(what, err)
	}
	if err := errors.Join(ready.Close(), said.SetReadDeadline(time.Now().Add(patience))); err != nil {
		return fmt.Errorf(what, err)
	}
	text, err := io.ReadAll(said)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("cannot start the network switch: it says nothing after %s", patience)
	case err != nil:
		return fmt.Errorf(what, err)
	case len(text) == 0:
		return errors.New("cannot start the network switch: it ended before it was ready")
	case string(text) != Ready:
		return errors.New("cannot start the network switch: " + string(text))
	}
	return nil
}

// Ready is what a switch says when it is; anything else is why it is not.
const Ready = "ready"

// environment is the switch's: a monitor's has settings that are for monitors.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "TMPDIR", GraceVariable, UplinkVariable} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// UplinkVariable chooses the way out of the switch's networks: UplinkStack is the TCP/IP stack in user mode, anything else the kernel's own where it can be had.
const (
	UplinkVariable = "SKIFF_UPLINK"
	UplinkStack    = "stack"
)

// GraceVariable names how long a switch outlives its last container, as a Go duration.
const GraceVariable = "SKIFF_SWITCH_GRACE"

// Attach connects the container whose network namespace is space, with the sockets that its monitor has of its ports. It returns its published ports.
func (c *Cable) Attach(r Request, space *os.File) ([]Port, error) {
	c.asking <- struct{}{}
	defer func() { <-c.asking }()
	if err := c.lend(); err != nil {
		return nil, err
	}
	r.Op = OpAttach
	if len(r.Ports) > 0 {
		r.Keep = c.sockets.room()
	}
	ports, err := c.answer(c.conn.Send(r, space))
	if err == nil {
		c.attached = true
		go c.read()
	}
	return ports, err
}

// read hands answers to Ask, takes sockets of ports, and hears of the switch's end.
func (c *Cable) read() {
	defer close(c.gone)
	for {
		var reply Reply
		fds, err := c.conn.ReceiveNumbers(&reply)
		if errors.Is(err, stage.ErrDescriptors) && len(reply.Kept) > 0 {
			continue // some that the next switch has to make
		}
		if err != nil {
			return
		}
		if len(reply.Kept) > 0 && len(reply.Kept) == len(fds) {
			for i, place := range reply.Kept {
				c.sockets.add(place, socket{fd: fds[i]})
			}
			continue
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		c.replies <- reply
	}
}

// Ask asks for a change of a container that is attached.
func (c *Cable) Ask(r Request) error {
	c.asking <- struct{}{}
	defer func() { <-c.asking }()
	return c.question(r, nil)
}

// retirePatience is how long the end of a container waits for the switch.
const retirePatience = time.Second

// Retire has the switch let go of the ports of the container, which has ended: but for the sockets that its monitor has they are free then, and no more of these come. Of a switch that takes too long to
// answer, this or a question before it, the cable is pulled out.
func (c *Cable) Retire() {
	patience := time.After(retirePatience)
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-patience:
		_ = c.conn.Close() // whoever asks hears of it
		return
	}
	if errors.Is(c.question(Request{Op: OpRetire}, patience), errMute) {
		_ = c.conn.Close() // its answer would be taken for that to the next question
	}
}

// errMute says that the switch takes too long to answer.
var errMute = errors.New("the network switch does not answer")

func (c *Cable) question(r Request, patience <-chan time.Time) error {
	if !c.attached {
		return ErrGone // nobody would read the answer
	}
	if err := c.conn.Send(r); err != nil {
		return fmt.Errorf("cannot ask the network switch: %w", err)
	}
	select {
	case reply := <-c.replies:
		if reply.Error != "" {
			return reply.refusal()
		}
		return nil
	case <-c.gone:
		return ErrGone
	case <-patience:
		return errMute
	}
}

// answer reads the answer to a question of somebody who is not attached yet, if it could be sent.
func (c *Cable) answer(err error) ([]Port, error) {
	if err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			err = fmt.Errorf("%w: %w", ErrGone, err)
		}
		return nil, fmt.Errorf("cannot ask the network switch: %w", err)
	}
	var reply Reply
	got, err := c.conn.Receive(&reply)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	for i, f := range got {
		if i == 0 && c.space == nil {
			c.space = f
		} else {
			f.Close()
		}
	}
	if reply.Error != "" {
		return nil, reply.refusal()
	}
	return reply.Ports, nil
}

// ErrGone says that the switch ended before it answered.
var ErrGone = errors.New("the network switch has gone")

// Refusal is the switch's no.
type Refusal struct {
	Text, Hint string
	Parent     string // as in Reply
	Denied     []int  // likewise
	cause      error
}

func (r *Reply) refusal() *Refusal {
	return &Refusal{Text: r.Error, Hint: r.Hint, Parent: r.Parent, Denied: r.Denied}
}

func (r *Refusal) Error() string { return r.Text }
func (r *Refusal) Unwrap() error { return r.cause }

// HintText is what the user can do.
func (r *Refusal) HintText() string { return r.Hint }

// Gone is closed when the switch has gone, or the cable was pulled out.
func (c *Cable) Gone() <-chan struct{} { return c.gone }

// Space is the switch's network namespace: kept open it outlives the switch, with its bridges and the containers' cables in it.
func (c *Cable) Space() *os.File { return c.space }

// Close pulls the cable out: the container is disconnected, whoever asks hears ErrGone, and no more sockets come. The namespace stays open.
func (c *Cable) Close() error {
	err := c.conn.Close()
	c.asking <- struct{}{}
	defer func() { <-c.asking }()
	if c.attached {
		<-c.gone
	}
	return err
}
