package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// Native is the in-house runtime.
type Native struct{}

// New is the in-house runtime.
func New() Runtime { return Native{} }

// Create implements Runtime. The calling goroutine should be locked to the main thread: the first process dies with the thread that made it.
func (Native) Create(_ context.Context, bundle Bundle) (Container, error) {
	if bundle.Spec == nil || bundle.Spec.Process == nil || bundle.Spec.Linux == nil {
		return nil, fmt.Errorf("cannot create container %s: its spec has no process or no linux section", bundle.ID)
	}
	ns, err := openNamespaces(bundle.Spec.Linux.Namespaces)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	b := newBuilder()
	defer b.Close()
	b.keep, b.trees = bundle.Keep, bundle.Trees
	channel, err := fork.NewChannelAbove(b.channelFD() + 2)
	if err != nil {
		return nil, err
	}
	if err := b.plan(bundle, ns, channel.Child()); err != nil {
		channel.Close()
		return nil, err
	}
	var child *fork.Child
	err = inPidNamespace(ns.pid, func() (err error) {
		child, err = fork.Start(b.program, channel, fork.Options{Namespaces: ns.clone, Cgroup: bundle.CgroupFD})
		return err
	})
	runtime.KeepAlive(bundle)
	if err != nil {
		return nil, fmt.Errorf("cannot make the container's namespaces: %w", fork.Limit(err))
	}
	c := &native{process: process{child: child, args: bundle.Spec.Process.Args}, unheld: bundle.Unheld}
	if bundle.Unheld {
		return c, nil
	}
	if bundle.Meanwhile != nil {
		if err := bundle.Meanwhile(c.Pid()); err != nil {
			if cause := c.awaitReady(nil); cause != nil {
				err = cause // of one that has ended nothing can be connected
			}
			c.discard()
			return nil, err
		}
	}
	if bundle.Held != nil {
		err = c.hold(bundle, b)
	} else {
		err = c.awaitReady(bundle.Hooks)
	}
	if err != nil {
		c.discard()
		return nil, err
	}
	return c, nil
}

// native is a container made by Native.
type native struct {
	process
	started bool
	unheld  bool
}

// process is a child of ours in a container.
type process struct {
	child   *fork.Child
	args    []string
	console *os.File
	once    sync.Once
}

// awaitReady reads the child's messages until it is ready or has failed. Where hooks are due it runs them; nil does not come further.
func (p *process) awaitReady(hooks func(pid int) error) error {
	for {
		kind, fd, err := p.receive()
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("cannot create the container: its first process was killed while it was being made")
		case err != nil:
			return p.explain(err)
		case kind == messageConsole:
			p.console = fd
		case kind == messageHooks:
			if hooks == nil {
				return nil
			}
			if err := hooks(p.Pid()); err != nil {
				return err
			}
			if _, err := p.child.Channel.Write([]byte{'g'}); err != nil {
				return fmt.Errorf("cannot create the container: %w", err)
			}
		case kind == messageReady:
			return nil
		}
	}
}

// awaitExec reads until the channel closes, which is the execve, and says what failed otherwise.
func (p *process) awaitExec() error {
	for {
		kind, fd, err := p.receive()
		switch {
		case errors.Is(err, io.EOF):
			return p.child.Channel.Close()
		case err != nil:
			return p.explain(err)
		case kind == messageConsole:
			p.console = fd
		}
	}
}

// explain tells a payload that cannot be executed from other failed steps.
func (p *process) explain(err error) error {
	var step *fork.Error
	if !errors.As(err, &step) || step.What != "exec" && !strings.HasPrefix(step.What, "chdir ") {
		return obstacle(err, step)
	}
	e := &ExecError{Path: p.args[0], Step: "exec", Errno: step.Errno}
	if dir, ok := strings.CutPrefix(step.What, "chdir "); ok {
		e.Step, e.Path = "chdir", dir
	} else if !strings.Contains(p.args[0], "/") && step.Errno == unix.ENOENT {
		e.Step = "find in $PATH"
	}
	return e
}

// receive reads one message: a kind and perhaps a descriptor, or the error that it carries, or io.EOF.
func (p *process) receive() (kind byte, file *os.File, err error) {
	raw, err := p.child.Channel.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var n, oobn int
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	var recvErr error
	err = raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return recvErr != unix.EAGAIN && recvErr != unix.EINTR
	})
	if err == nil {
		err = recvErr
	}
	if err == nil && n == 0 || errors.Is(err, unix.ECONNRESET) {
		return 0, nil, io.EOF
	}
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read from the container's first process: %w", err)
	}
	data, err := p.child.Decode(buf[:n])
	if err != nil {
		return 0, nil, err
	}
	if oobn > 0 {
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err == nil && len(messages) == 1 {
			if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
				_ = unix.SetNonblock(fds[0], true) // a terminal just received can
				file = os.NewFile(uintptr(fds[0]), "console")
			}
		}
	}
	return data[0], file, nil
}

// discard ends and reaps a process that did not come to its payload.
func (p *process) discard() {
	_ = p.Signal(unix.SIGKILL) // it may have ended
	_, _ = p.Wait()
	p.child.Channel.Close()
	if p.console != nil {
		p.console.Close()
	}
}

// Pid implements Process.
func (p *process) Pid() int { return p.child.Pid }

// Console implements Process.
func (p *process) Console() *os.File { return p.console }

// Signal implements Process.
func (p *process) Signal(sig unix.Signal) error { return signal(p.child.PidFD, sig) }

// Wait implements Process.
func (p *process) Wait() (int, error) { return wait(p.child.PidFD, p.child.Pid) }

// Start implements Container.
func (c *native) Start() error {
	if c.started {
		return fmt.Errorf("cannot start the container: it has been started")
	}
	c.started = true
	if c.unheld {
		return c.awaitExec()
	}
	if _, err := c.child.Channel.Write([]byte{'s'}); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("cannot start the container: %w", err)
	}
	return c.awaitExec()
}

// Root implements Container.
func (c *native) Root() (*os.File, error) { return rootOf(c.child.Pid) }

// Delete implements Container. The kernel has freed the namespaces with their last process.
func (c *native) Delete() error { return nil }

// plan is the life of a container's first process, top to bottom.
func (b *builder) plan(bundle Bundle, ns *namespaces, channel fork.Arg) error {
	p, spec := b.program, bundle.Spec
	pr := spec.Process
	p.Call("hide our memory", unix.SYS_PRCTL, fork.Int(unix.PR_SET_DUMPABLE), fork.Int(0), fork.Int(0), fork.Int(0), fork.Int(0))
	// The signal comes when the thread that forked us dies; one that joined a pid namespace does so at once.
	deathsig := ns.pid == nil && bundle.Held == nil
	if deathsig {
		p.Call("tie our life to the monitor's", unix.SYS_PRCTL, fork.Int(unix.PR_SET_PDEATHSIG), fork.Int(unix.SIGKILL), fork.Int(0), fork.Int(0), fork.Int(0))
	}
	p.Call("make a session", unix.SYS_SETSID)
	b.joinCgroups(bundle.Cgroup)
	if ns.cgroup {
		p.Call("make a cgroup namespace", unix.SYS_UNSHARE, fork.Int(unix.CLONE_NEWCGROUP))
	}
	for _, j := range ns.join {
		p.Call(fmt.Sprintf("join the %s namespace", j.name), unix.SYS_SETNS, fork.Int(j.file.Fd()), fork.Int(j.kind))
	}
	if spec.Hostname != "" {
		p.Call("set the host name", unix.SYS_SETHOSTNAME, p.Str(spec.Hostname), fork.Int(len(spec.Hostname)))
	}
	if spec.Domainname != "" {
		p.Call("set the domain name", unix.SYS_SETDOMAINNAME, p.Str(spec.Domainname), fork.Int(len(spec.Domainname)))
	}
	b.loopback(ns.clone&unix.CLONE_NEWNET != 0)

	place := bundle.Place
	if place == "" {
		place = bundle.Dir + "/rootfs"
	}
	if err := b.attachRoot(bundle.Rootfs, bundle.Detached, place, propagations[spec.Linux.RootfsPropagation]); err != nil {
		return err
	}
	hasProc := false
	for _, m := range spec.Mounts {
		if err := b.mount(m); err != nil {
			return err
		}
		hasProc = hasProc || m.Type == "proc"
	}
	if err := b.devices(spec.Linux.Devices); err != nil {
		return err
	}
	if pr.Terminal {
		b.console(channel, pr.ConsoleSize, true)
	}
	if !hasProc && (len(spec.Linux.Sysctl) > 0 || pr.OOMScoreAdj != nil) {
		// Somebody else's pid namespace: a procfs of it could be mounted by its owner alone, so the one in sight serves, which is still the host's.
		b.open("open /proc", "/proc", unix.O_PATH|unix.O_DIRECTORY, 0, b.proc)
	}
	b.sysctls(spec.Linux.Sysctl)
	if pr.OOMScoreAdj != nil {
		b.writeProc("set the OOM score", "self/oom_score_adj", fmt.Sprint(*pr.OOMScoreAdj))
	}
	if bundle.Hooks != nil {
		b.ask(channel, messageHooks)
	}
	if err := b.finishRoot(spec); err != nil {
		return err
	}

	if bundle.Held != nil {
		if err := b.listen(bundle.Held.Listener); err != nil {
			return err
		}
	}
	if err := b.streams(bundle.Stdio, pr.Terminal, channel); err != nil {
		return err
	}
	if err := b.rlimits(pr.Rlimits); err != nil {
		return err
	}
	if bundle.Held != nil && !bundle.Held.NoProgram {
		b.lookFor(pr)
	}
	if !bundle.Unheld {
		b.ask(fork.Int(b.channelFD()), messageReady)
	}
	if bundle.Held != nil {
		b.awaitLaunch()
	}
	if bundle.Init {
		p.Init("init")
	}
	b.workdir(pr.Cwd, true)
	b.umask(pr.User.Umask)
	b.refuseOurselves(pr, "")
	if err := b.credentials(pr, bundle.Filter, deathsig); err != nil {
		return err
	}
	return b.execute(pr, "")
}

// umask adds umask(2); 0022 is Docker's.
func (b *builder) umask(mask *uint32) {
	value := uint32(0o022)
	if mask != nil {
		value = *mask
	}
	b.program.Call("set the umask", unix.SYS_UMASK, fork.Int(value))
}

// loopback brings up lo in a new network namespace.
func (b *builder) loopback(isNew bool) {
	if !isNew {
		return
	}
	p := b.program
	req := &struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: unix.IFF_UP | unix.IFF_RUNNING}
	copy(req.name[:], "lo")
	const what = "bring up the loopback interface"
	p.Call(what, unix.SYS_SOCKET, fork.Int(unix.AF_INET), fork.Int(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), fork.Int(0)).To(b.scratch)
	p.Call(what, unix.SYS_IOCTL, b.scratch.Value(), fork.Int(unix.SIOCSIFFLAGS), fork.Pointer(p, req))
	p.Call(what, unix.SYS_CLOSE, b.scratch.Value())
}
