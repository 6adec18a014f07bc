package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
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

// conclude is the end of the container's last life. State first, then the answers: whoever hears of the end finds it on disk, and can start, remove or name another
// one the same at once.
func (m *monitor) conclude(exit record.Exit) int {
	m.renewed(m.notRunning())
	early := m.record.Config.Remove && m.layer.Detached && m.native() // nothing of it is mounted by a path, which retiring changes
	var err error
	if early {
		m.unwatchNIC()
		m.nic.release()
		m.endOOM()
		err = m.retire(exit)
		m.unpublish()
	} else {
		err = m.finish(exit)
	}
	m.answer(exit.Code, true)
	if early {
		err = errors.Join(err, m.free(&exit))
		m.release()
		err = errors.Join(err, m.store.Release(m.record.ID))
	}
	if m.record.Config.Remove {
		err = errors.Join(err, m.store.DeleteRetired(m.record.ID, layer.Delete))
	}
	if err != nil {
		return codeOurs
	}
	return 0
}

// unpublish frees the ports, ahead of all that free does: whoever hears of the end can publish them again.
func (m *monitor) unpublish() {
	if m.network == nil || len(m.network.asked) == 0 {
		return
	}
	if m.unwatch != nil {
		m.unwatch()
	}
	m.network.end()
	m.sockets.Close()
}

// native says that the container is one of our own runtime, which leaves nothing to delete.
func (m *monitor) native() bool {
	c := m.record.Config
	return c.Runtime == "" || c.Runtime == "skiff"
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

// discard ends a container that is not to run.
func (m *monitor) discard() error {
	err := m.container.Signal(unix.SIGKILL)
	m.process.wait(0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it ended with the failed execve
	}
	return err
}

// finish frees everything but the record and writes the end down.
func (m *monitor) finish(exit record.Exit) error {
	id := m.record.ID
	err := m.free(&exit)
	m.release()
	if m.record.Config.Remove {
		return errors.Join(err, m.retire(exit), m.store.Release(id))
	}
	err = errors.Join(err, m.store.WriteExit(id, exit, m.sync))
	if exit.Error == "" {
		m.emit("die", exitCode(exit.Code))
	}
	return errors.Join(err, m.store.Release(id))
}

// retire takes a --rm container's record, name and anonymous volumes away. Its files are deleted later.
func (m *monitor) retire(exit record.Exit) error {
	err := errors.Join(m.removeAnonymous(), m.store.Retire(m.record.ID))
	if exit.Error == "" {
		m.emit("die", exitCode(exit.Code))
	}
	m.emit("destroy", nil)
	return err
}

// settle gives up a container whose end is on disk already and that was to live again.
func (m *monitor) settle() error {
	id := m.record.ID
	if !m.record.Config.Remove {
		return m.store.Release(id)
	}
	err := errors.Join(m.removeAnonymous(), m.store.Retire(id))
	m.emit("destroy", nil)
	return errors.Join(err, m.store.Release(id), m.store.DeleteRetired(id, layer.Delete))
}

func exitCode(code int) map[string]string { return map[string]string{"exitCode": strconv.Itoa(code)} }

// free gives back what the life of the container held, and notes what the control group knows of its end.
func (m *monitor) free(exit *record.Exit) error {
	var errs []error
	if m.unwatch != nil {
		m.unwatch()
		m.unwatch = nil
		m.nic.await()
	}
	if m.network != nil {
		errs = append(errs, m.network.close())
		m.space = m.network.keep(m.space)
		m.network = nil
	}
	m.user.close()
	m.user = nil
	m.endGathered()
	if m.container != nil {
		errs = append(errs, m.container.Delete())
		m.container = nil
	}
	if m.log != nil {
		errs = append(errs, m.log.Close())
		m.log = nil
	}
	if m.layer != nil {
		errs = append(errs, m.layer.Close())
		m.layer = nil
	}
	if m.endOOM() {
		exit.OOMKilled = true
	}
	m.oom.told = 0
	for _, f := range m.keep {
		f.Close()
	}
	m.keep = nil
	m.mu.Lock()
	group := m.group
	m.group, m.now = nil, nil
	m.mu.Unlock()
	if group != nil {
		errs = append(errs, group.Kill(), group.Delete())
	}
	return errors.Join(errs...)
}

// release gives up what is kept from life to life, the interface on a bridge of the host's and the ports: there is no next life.
func (m *monitor) release() {
	m.nic.release()
	m.nic = nil
	m.sockets.Close()
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
