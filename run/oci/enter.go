package oci

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// Exec implements Container: one more process in the container's namespaces. It dies with the container's first process, not with the monitor's
// thread, so it may be called from any goroutine.
func (c *native) Exec(_ context.Context, e Exec) (Process, error) {
	if e.Process == nil {
		return nil, fmt.Errorf("cannot execute in the container: no process")
	}
	b := newBuilder()
	defer b.Close()
	channel, err := fork.NewChannel()
	if err != nil {
		return nil, err
	}
	var pidfd int
	raw, err := c.child.PidFD.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { pidfd = int(fd) })
	}
	if err != nil {
		channel.Close()
		return nil, fmt.Errorf("cannot execute in the container: it has ended")
	}
	if err := b.enter(e, pidfd, channel.Child()); err != nil {
		channel.Close()
		return nil, err
	}
	pidns, err := openNamespace(c.child.Pid, "pid")
	if err != nil {
		channel.Close()
		return nil, err
	}
	defer pidns.Close()
	var child *fork.Child
	err = inPidNamespace(pidns, func() (err error) {
		child, err = fork.Start(b.program, channel, fork.Options{Cgroup: e.CgroupFD})
		return err
	})
	runtime.KeepAlive(e)
	runtime.KeepAlive(c)
	if err != nil {
		return nil, fmt.Errorf("cannot execute in the container: %w", err)
	}
	p := &process{child: child, args: e.Process.Args}
	if err := p.awaitExec(); err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// enter is the life of an exec'd process up to its execve, top to bottom.
func (b *builder) enter(e Exec, pidfd int, channel fork.Arg) error {
	p, pr := b.program, e.Process
	// Before anything of the container can see us: our memory is a copy of the monitor's (CVE-2016-9962).
	p.Call("hide our memory", unix.SYS_PRCTL, fork.Int(unix.PR_SET_DUMPABLE), fork.Int(0), fork.Int(0), fork.Int(0), fork.Int(0))
	p.Call("make a session", unix.SYS_SETSID)
	b.joinCgroups(e.Cgroup)
	p.Call("join the container's namespaces", unix.SYS_SETNS, fork.Int(pidfd),
		fork.Int(unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWCGROUP))
	if pr.Terminal {
		p.Call("open /", unix.SYS_OPENAT, fork.Cwd(), p.Str("/"), fork.Int(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)).To(b.rootSlot)
		b.root = b.rootSlot.Value()
		b.console(channel, pr.ConsoleSize, false)
	}
	if err := b.streams(e.Stdio, pr.Terminal, channel); err != nil {
		return err
	}
	if err := b.rlimits(pr.Rlimits); err != nil {
		return err
	}
	b.workdir(pr.Cwd, false)
	b.umask(pr.User.Umask)
	if err := b.credentials(pr, e.Filter, false); err != nil {
		return err
	}
	return b.execute(pr)
}
