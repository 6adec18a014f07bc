package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// This file is about containers that one process makes and another one starts (Held):
//
//	maker                          init                                  starter
//	  |<- hooks -------------------- | all is mounted
//	  |-- go on -------------------->| pivot, streams
//	  |<- ready -------------------- | all is done
//	  |   (state is written)         |
//	  |-- go on -------------------->| accept(listener)
//	  exits                          |<------------------------ connect --|
//	                                 |<------------------------ start ----|
//	                                 | execve                             |
//	                                 |-- EOF, or step and errno --------->|
//
// When the maker dies early its end of the channel closes, and init ends with a failed read; so it does when the starter dies between connecting and starting.

// ask adds the steps that send one byte and wait for an answer.
func (b *builder) ask(channel fork.Arg, kind byte) {
	p := b.program
	p.Call("tell how far it is", unix.SYS_WRITE, channel, p.Bytes([]byte{kind}), fork.Int(1))
	p.Call("wait for the word to go on", unix.SYS_READ, channel, p.Bytes(make([]byte, 8)), fork.Int(8)).AtLeast(1)
}

// listen takes a listener to be kept, above the numbers that the child fills.
func (b *builder) listen(listener *os.File) error {
	b.listener = listener
	fd, err := unix.FcntlInt(listener.Fd(), unix.F_DUPFD_CLOEXEC, b.firstFree())
	if err != nil {
		return fmt.Errorf("cannot keep the container's socket: %w", err)
	}
	b.listener = os.NewFile(uintptr(fd), "listener")
	b.files = append(b.files, b.listener)
	return nil
}

// lookFor adds steps that fail early, while the container is made and not when it is started, when there is no program to be executed. Relative paths are looked at by the execve alone, since
// the working directory may have to be made first.
func (b *builder) lookFor(pr *specs.Process) {
	p := b.program
	list := candidates(pr.Args[0], pr.Env)
	if slices.ContainsFunc(list, func(name string) bool { return !path.IsAbs(name) }) {
		return
	}
	for i, name := range list {
		s := p.Call("exec", unix.SYS_FACCESSAT2, fork.Cwd(), p.Str(name), fork.Int(unix.X_OK), fork.Int(unix.AT_EACCESS)).SkipOnSuccess(len(list) - 1 - i)
		if i < len(list)-1 {
			s.Allow(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
		}
	}
}

// awaitLaunch adds the steps that wait for the starter, whose connection takes the channel's place.
func (b *builder) awaitLaunch() {
	p := b.program
	b.launch = p.Len()
	const what = "wait for the start"
	p.Call(what, unix.SYS_ACCEPT4, fork.Int(b.channelFD()+1), fork.Int(0), fork.Int(0), fork.Int(unix.SOCK_CLOEXEC)).To(b.scratch).AtLeast(0)
	p.Call(what, unix.SYS_DUP3, b.scratch.Value(), fork.Int(b.channelFD()), fork.Int(unix.O_CLOEXEC))
	p.Call(what, unix.SYS_CLOSE, b.scratch.Value())
	p.Call(what, unix.SYS_CLOSE, fork.Int(b.channelFD()+1))
	p.Call(what, unix.SYS_READ, fork.Int(b.channelFD()), p.Bytes(make([]byte, 8)), fork.Int(8)).AtLeast(1)
}

// hold is the maker's side.
func (c *native) hold(bundle Bundle, b *builder) error {
	for {
		kind, fd, err := c.receive()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("cannot create the container: its first process was killed while it was being made")
		case err != nil:
			return c.explain(err)
		case kind == messageConsole:
			c.console = fd
			continue
		case kind == messageHooks:
			err = bundle.Hooks(c.Pid())
		case kind == messageReady:
			err = bundle.Held.Ready(c.Pid(), c.console, b.program.Words(b.launch))
		}
		if err == nil {
			_, err = c.child.Channel.Write([]byte{'g'})
		}
		if err != nil {
			return err
		}
		if kind == messageReady {
			return c.child.Channel.Close()
		}
	}
}

// Launch starts a held container: socket is the path of its listener, steps what Held.Ready was told, args the payload's words for an *ExecError. It returns when the payload is
// executed. It may be called in any process of the same user.
func Launch(socket string, steps, args []string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot start the container: %w", err)
	}
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err == nil {
		err = unix.Unlink(socket) // it is started once
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		_, err = unix.Write(fd, []byte{'s'})
	}
	channel := os.NewFile(uintptr(fd), "channel")
	if err != nil {
		return errors.Join(fmt.Errorf("cannot start the container: %w", err), channel.Close())
	}
	p := &process{child: fork.Adopt(0, nil, channel, steps), args: args}
	if err := p.awaitExec(); err != nil {
		return errors.Join(err, channel.Close())
	}
	return nil
}

// Running is a container that another process has made, by its first process. It is that process's for Exec and Root; it cannot be started, and its end is somebody else's.
func Running(pid int, pidfd *os.File) Container {
	return &native{process: process{child: &fork.Child{Pid: pid, PidFD: pidfd}}, started: true}
}
