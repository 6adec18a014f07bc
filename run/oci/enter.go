package oci

import (
	"context"
	"fmt"
	"os"
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
	b.keep = e.Keep
	channel, err := fork.NewChannelAbove(b.channelFD() + 2)
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
	others, err := foreign(c.child.Pid)
	if err == nil {
		err = b.enter(e, pidfd, others, channel.Child())
	}
	var pidns *os.File // nil: our own
	if err == nil && others&unix.CLONE_NEWPID != 0 {
		pidns, err = openNamespace(c.child.Pid, "pid")
	}
	if err != nil {
		channel.Close()
		return nil, err
	}
	if pidns != nil {
		defer pidns.Close()
	}
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

// foreign is which of a process's namespaces are not our own, as flags of setns(2). The host's, which --network host, --pid host and the like share with
// the container, are our own already, and nobody without rights over them can join them.
func foreign(pid int) (flags int, err error) {
	for _, ns := range []struct {
		name string
		flag int
	}{
		{"mnt", unix.CLONE_NEWNS}, {"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP}, {"pid", unix.CLONE_NEWPID},
	} {
		var theirs, mine unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, ns.name), &theirs); err != nil {
			return 0, fmt.Errorf("cannot find the container's %s namespace: %w", ns.name, err)
		}
		if err := unix.Stat("/proc/self/ns/"+ns.name, &mine); err != nil {
			return 0, fmt.Errorf("cannot find the monitor's %s namespace: %w", ns.name, err)
		}
		if theirs.Ino != mine.Ino || theirs.Dev != mine.Dev {
			flags |= ns.flag
		}
	}
	return flags, nil
}

// enter is the life of an exec'd process up to its execve, top to bottom.
func (b *builder) enter(e Exec, pidfd, namespaces int, channel fork.Arg) error {
	p, pr := b.program, e.Process
	// Before anything of the container can see us: our memory is a copy of the monitor's (CVE-2016-9962).
	p.Call("hide our memory", unix.SYS_PRCTL, fork.Int(unix.PR_SET_DUMPABLE), fork.Int(0), fork.Int(0), fork.Int(0), fork.Int(0))
	p.Call("make a session", unix.SYS_SETSID)
	b.joinCgroups(e.Cgroup)
	p.Call("join the container's namespaces", unix.SYS_SETNS, fork.Int(pidfd),
		fork.Int(namespaces&^unix.CLONE_NEWPID))
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
	b.refuseOurselves(pr, e.Path)
	if err := b.credentials(pr, e.Filter, false); err != nil {
		return err
	}
	return b.execute(pr, e.Path)
}
