package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/log"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
)

// The descriptors a monitor is started with.
const (
	controlFD = 3
	lockFD    = 4
)

// Exit codes of what went wrong before the payload ran, as Docker's.
const (
	codeOurs       = 125
	codeNotRunable = 126
	codeNotFound   = 127
)

// monitor is one life of one container.
type monitor struct {
	store   *record.Store
	record  *record.Container
	life    int
	sync    disk.Sync
	alive   *disk.Lock
	layer   *layer.Mounted
	log     *log.Writer
	spec    *specs.Spec
	filter  []unix.SockFilter
	group   *cgroup.Group // nil without limits
	oom     oomWatch
	keep    []*os.File    // open for as long as the container lives
	shm     *os.File      // another container's /dev/shm, to share; nil without (in keep, too)
	engine  string        // the program that the switch is
	space   *os.File      // the switch's network namespace, in which parents of macvlan networks are, between two lives; nil without
	sockets *plug.Sockets // of published ports
	name    string        // the host name that comes with a shared network; "" otherwise
	user    *userMode     // nil without a helper
	nic     *nic          // nil without an interface on a bridge of the host's
	files   hostTexts     // what was written of them
	network *network      // nil without networks that the switch serves
	health  *image.Health // nil without a health check
	unwatch func()        // ends the watch over the switch and the health checks

	container oci.Container
	process   *process

	listener *stage.Listener
	again    int           // how often the restart policy has started it
	pause    time.Duration // before the last of these
	halt     chan struct{} // closed when somebody wants the container's end

	holds holds

	mu      sync.Mutex
	open    []*conversation // about the container's first process
	stopped bool            // halt is closed
	between bool            // the container is to live again
	renewal []*conversation // whoever has asked for another life, and waits for it
	renews  bool            // that life is being made
	now     *life           // nil before the first life, and between two
}

// Main is the life of a process whose argv[0] is stage.Monitor: args are the data directory and the runtime directory. Its descriptor 3 is
// a control connection and descriptor 4 the user namespace's lock. It returns the process's exit status.
func Main(args []string) int {
	// Init dies with the thread that made it, so that thread is this goroutine's for good.
	runtime.LockOSThread()
	debug.SetGCPercent(50)
	unix.Umask(0o022)
	setName("skiff-monitor")
	if len(args) != 2 {
		_, _ = os.Stderr.WriteString("skiff-monitor is started by skiff itself\n")
		return codeOurs
	}
	conn, err := stage.NewConn(controlFD)
	if err != nil {
		return codeOurs
	}
	nslock := disk.Adopt(os.NewFile(lockFD, "userns.lock"))
	unix.CloseOnExec(lockFD)
	// The first message says that our user namespace is complete; before it nothing may be touched.
	var req stage.Request
	files, err := conn.Receive(&req)
	if err != nil || req.Op != stage.OpStart || req.ID == "" {
		return codeOurs
	}
	m := &monitor{store: &record.Store{Data: args[0], Run: args[1]}, engine: req.Engine, halt: make(chan struct{})}
	if err := m.begin(req.ID, nslock); err != nil {
		fail(conn, err)
		return codeOurs
	}
	return m.live(conn, req, files)
}

// begin takes the container's lock and announces this process as a member of the user namespace.
func (m *monitor) begin(id string, nslock *disk.Lock) error {
	var err error
	if m.alive, err = m.claim(id); err != nil {
		return err
	}
	ns, err := userns.Own()
	if err != nil {
		return err
	}
	if err := m.store.Announce(id, os.Getpid(), ns); err != nil {
		return err
	}
	if err := nslock.Unlock(); err != nil {
		return err
	}
	if m.record, err = m.store.Load(id); err != nil {
		return errors.Join(err, m.store.Release(id))
	}
	m.sync = disk.Sync(!m.record.Config.Remove)
	m.life, err = m.store.NextLife(id)
	return err
}

// live runs the container to its end.
func (m *monitor) live(conn *stage.Conn, req stage.Request, files []*os.File) int {
	for {
		began := time.Now()
		if err := named(m.start(conn, req, files), m.record.Config); err != nil {
			code := codeOf(err)
			end := m.finish(record.Exit{Life: m.life, Code: code, At: time.Now().UTC(), Error: err.Error()})
			if m.record.Config.Remove {
				end = errors.Join(end, m.store.DeleteRetired(m.record.ID, layer.Delete))
			}
			if hint := disk.Hint(end); hint == "" || hint != disk.Hint(err) { // a full or read-only disk is said once
				err = errors.Join(err, end)
			}
			fail(conn, err)
			m.renewed(err)
			m.answer(code, true)
			return code
		}
		conn, files = nil, nil
		exit := record.Exit{Life: m.life, Code: m.process.wait(exitGrace)}
		exit.At = time.Now().UTC()
		yes, settled := m.restarts(exit, time.Since(began))
		if settled {
			err := m.settle()
			m.renewed(m.notRunning())
			m.answer(exit.Code, true)
			if err != nil {
				return codeOurs
			}
			return 0
		}
		if !yes {
			return m.conclude(exit)
		}
	}
}

// exitGrace is how long output may lag behind the end of the container's first process.
const exitGrace = 5 * time.Second

// start makes and starts the container and serves its socket.
func (m *monitor) start(conn *stage.Conn, req stage.Request, files []*os.File) error {
	c := m.record.Config
	options, err := log.ParseOptions(c.LogDriver, c.LogOptions)
	if err != nil {
		return err
	}
	if m.log, err = log.Create(filepath.Join(m.store.Dir(m.record.ID), record.Log), options); err != nil {
		return err
	}
	bundle, err := m.prepare(context.Background())
	if err != nil {
		return err
	}
	p := newProcess(m.log)
	p.held = c.Detach // as Docker's run -d -i has it
	if c.Tty {
		if req.Rows > 0 {
			bundle.Spec.Process.ConsoleSize = &specs.Box{Height: uint(req.Rows), Width: uint(req.Cols)}
		}
	} else if bundle.Stdio, err = p.pipes(c.Interactive); err != nil {
		return fmt.Errorf("cannot make the container's streams: %w", err)
	}
	rt, err := oci.For(c.Runtime)
	if err != nil {
		return err
	}
	if !m.native() {
		if bundle.Spec.Linux.Seccomp, err = profile(c, bundle.Spec.Process.Capabilities.Bounding); err != nil {
			return err
		}
	}
	bundle.Unheld = m.native() && !c.Tty && m.network == nil && m.user == nil && m.nic == nil && bundle.Hooks == nil
	switch {
	case m.network != nil:
		if conn != nil {
			m.network.front = &front{conn}
		}
		bundle.Meanwhile = m.network.connect
	case m.user != nil:
		bundle.Meanwhile = m.user.connect
	case m.nic != nil:
		m.nic.front = nil
		if conn != nil {
			m.nic.front = &front{conn}
		}
		bundle.Meanwhile = m.connectNIC
	}
	if err := m.gather(); err != nil {
		return err
	}
	m.container, err = rt.Create(context.Background(), bundle)
	for _, f := range bundle.Stdio {
		if f != nil {
			f.Close()
		}
	}
	if err != nil {
		return err
	}
	p.Process = m.container
	m.mu.Lock()
	m.process, m.between, m.now = p, false, &life{m.container, m.spec, m.filter, m.group, m.network}
	m.mu.Unlock()
	var conv *conversation
	if conn != nil {
		conv = m.converse(conn, p)
		conv.halt = m.stopRestarting
		conv.attach(req, files)
	}
	p.run()
	if m.listener == nil {
		if m.listener, err = stage.Listen(filepath.Join(m.store.RunDir(m.record.ID), record.Socket)); err != nil {
			return errors.Join(err, m.discard())
		}
	}
	if err := m.container.Start(); err != nil {
		return errors.Join(err, m.discard(), m.listener.Close())
	}
	started := record.Started{Life: m.life, Boot: filepath.Base(m.store.Run), At: time.Now().UTC(), Up: uptime(), Pid: m.container.Pid(), Restarts: m.again}
	if m.network != nil {
		m.network.record(&started)
	}
	if m.user != nil {
		recordPorts(&started, m.user.ports)
	}
	if m.nic != nil {
		m.nic.record(&started)
	}
	if err := m.store.WriteStarted(m.record.ID, started, m.sync); err != nil {
		return errors.Join(err, m.discard(), m.listener.Close()) // what cannot be recorded must not run
	}
	m.emit("start", nil)
	if conv != nil {
		conv.reply(stage.Reply{Kind: stage.Started, Pid: m.container.Pid(), Warning: m.network.warning()})
		conv.serve(m)
		go m.accept(m.listener)
	} else if err := m.resume(); err != nil {
		return errors.Join(err, m.discard())
	}
	m.watchOOM()
	m.watch()
	// Started on one processor (run.launch); what lives longer may have streams to copy. Changing it stops the world, which a short life need not pay.
	time.AfterFunc(50*time.Millisecond, func() { runtime.GOMAXPROCS(runtime.NumCPU()) })
	return nil
}

// uptime is how long the machine is up: no clock that somebody sets.
func uptime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // it is there since Linux 2.6.39
	return time.Duration(ts.Nano())
}

// resume says that the container's next life has begun.
func (m *monitor) resume() error {
	m.mu.Lock()
	stopped := m.stopped
	m.mu.Unlock()
	if stopped { // meanwhile
		_ = m.process.signal(unix.SIGKILL) // ESRCH: it has ended
	}
	err := m.store.SetRestarting(m.record.ID, false)
	m.renewed(err)
	return err
}

// watch looks after what the running container needs.
func (m *monitor) watch() {
	if m.network == nil && m.health == nil && m.nic == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.unwatch = cancel
	if m.network != nil {
		go m.network.watch(ctx)
	}
	if m.nic != nil {
		m.nic.watched = make(chan struct{})
		go m.watchNIC(ctx, m.nic)
	}
	if m.health != nil {
		go m.watchHealth(ctx, m.health)
	}
}

// emit records an event. An event that cannot be written does not stop a container.
func (m *monitor) emit(action string, attributes map[string]string) {
	_ = m.store.Emit(m.store.ContainerEvent(m.record, action, attributes))
}

func codeOf(err error) int {
	var exec *oci.ExecError
	if !errors.As(err, &exec) {
		return codeOurs
	}
	if exec.Errno == unix.ENOENT && exec.Step != "chdir" {
		return codeNotFound
	}
	return codeNotRunable
}

// fail answers a conversation that did not come about.
func fail(conn *stage.Conn, err error) {
	if conn == nil {
		return
	}
	r := stage.Reply{Kind: stage.Failed, Error: err.Error(), Code: codeOf(err)}
	var hint interface{ HintText() string }
	if errors.As(err, &hint) {
		r.Hint = hint.HintText()
	} else {
		r.Hint = disk.Hint(err)
	}
	_ = conn.Send(r) // the other side may have gone
	conn.Close()
}

// setName is what ps(1) shows of the process: it was executed through a descriptor, which has no name of its own.
func setName(name string) {
	b := append([]byte(name), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0) // cosmetic
}
