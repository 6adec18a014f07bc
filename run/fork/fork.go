package fork

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's hooks around a fork: they block signals, mark the goroutine's stack as one that must not grow, and in
// the child restore signal handling. They are the standard library's; see syscall/exec_linux.go.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// vforkCall is a system call of two arguments that may return twice on one stack.
//
//go:noescape
func vforkCall(nr, a0, a1 uintptr) (r uintptr, errno syscall.Errno)

// cloneArgs is struct clone_args of clone3(2), up to cgroup.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// Options of Start.
type Options struct {
	// Namespaces are CLONE_NEW* flags for the child.
	Namespaces uintptr
	// Cgroup, when not nil, is a control group (v2) to be born in.
	Cgroup *os.File
	// Borrow lets the child use the caller's memory instead of a copy (CLONE_VM and CLONE_VFORK), which spares the copy of the page tables and a
	// page fault for whatever either of the two writes next. The calling thread stands still until the child has executed its program, so the program
	// must not wait for the caller.
	Borrow bool
	// Sibling makes the process a child of the caller's parent (CLONE_PARENT): it is to outlive the caller, who need not wait for it and cannot.
	Sibling bool
}

// Child is a forked process and the channel to it: its end of the channel is the descriptor that Program.Channel was told.
type Child struct {
	Pid int
	// PidFD refers to the process, close-on-exec and non-blocking.
	PidFD *os.File
	// Channel is a SOCK_SEQPACKET socket; the child's other end closes when it executes a program or dies.
	Channel *os.File
	steps   []step
}

// Channel makes a socket pair for a Program: the number of the child's end, to be used in its steps, and the pair itself for Start.
type Channel struct {
	parent, child int
}

// NewChannel makes the channel; the child's end has a number above 9, so that low numbers are free for dup3.
func NewChannel() (*Channel, error) { return NewChannelAbove(9) }

// NewChannelAbove is NewChannel with a number above max(9, least) for the child's end.
func NewChannelAbove(least int) (*Channel, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	high, err := unix.FcntlInt(uintptr(fds[1]), unix.F_DUPFD_CLOEXEC, max(9, least)+1)
	unix.Close(fds[1])
	if err != nil {
		unix.Close(fds[0])
		if errors.Is(err, unix.EINVAL) { // fcntl(2): the number is beyond RLIMIT_NOFILE
			err = unix.EMFILE
		}
		return nil, fmt.Errorf("cannot duplicate a descriptor: %w", err)
	}
	return &Channel{parent: fds[0], child: high}, nil
}

// Child is the child's descriptor, as a step's argument.
func (c *Channel) Child() Arg { return Int(c.child) }

// Number is the child's descriptor as a number, for those who choose others.
func (c *Channel) Number() int { return c.child }

// Close gives up a channel that no Start was called with.
func (c *Channel) Close() {
	unix.Close(c.parent)
	unix.Close(c.child)
}

// Start forks a child that interprets p, and returns at once. Report tells how far it came.
// The child reports on its end of the channel, and follows it when a step duplicates that (dup3).
func Start(p *Program, c *Channel, o Options) (*Child, error) {
	// On the heap, where things do not move: the kernel is told their addresses.
	pidfd := new(int32)
	args := &cloneArgs{exitSignal: uint64(unix.SIGCHLD)}
	p.keep = append(p.keep, pidfd, args)
	args.flags = uint64(o.Namespaces) | unix.CLONE_PIDFD
	args.pidfd = uint64(uintptr(unsafe.Pointer(pidfd)))
	if o.Sibling {
		args.flags |= unix.CLONE_PARENT
		args.exitSignal = 0 // the caller's own is used (clone(2))
	}
	if o.Borrow {
		args.flags |= unix.CLONE_VM | unix.CLONE_VFORK
	}
	if o.Cgroup != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(o.Cgroup.Fd())
	}
	syscall.ForkLock.Lock()
	pid, errno := forkChild(p, args, false, c)
	runtimeAfterFork()
	if errno == unix.ENOSYS && o.Cgroup == nil {
		// An outer container's seccomp profile answers ENOSYS to clone3, since it cannot look at its flags.
		pid, errno = forkChild(p, args, true, c)
		runtimeAfterFork()
	}
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(p)
	runtime.KeepAlive(o.Cgroup)
	unix.Close(c.child)
	if errno != 0 {
		unix.Close(c.parent)
		return nil, errno
	}
	if _, err := unix.FcntlInt(uintptr(*pidfd), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("cannot make a pidfd non-blocking: %w", err)
	}
	return &Child{
		Pid:     int(pid),
		PidFD:   os.NewFile(uintptr(*pidfd), "pidfd"),
		Channel: os.NewFile(uintptr(c.parent), "channel"),
		steps:   p.steps,
	}, nil
}

// Adopt is a child whose program another process has written: its messages come over channel, words are that program's (Program.Words).
func Adopt(pid int, pidfd, channel *os.File, words []string) *Child {
	c := &Child{Pid: pid, PidFD: pidfd, Channel: channel, steps: make([]step, len(words))}
	for i, w := range words {
		c.steps[i].what = w
	}
	return c
}

// Report reads one message of the child: nil data with io.EOF when it has executed its program (or died), an *Error when a step failed, else
// the message.
func (c *Child) Report() ([]byte, error) {
	buf := make([]byte, 64)
	n, err := c.Channel.Read(buf)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		return nil, err
	}
	return c.Decode(buf[:n])
}

// Decode tells an error message from another one.
func (c *Child) Decode(b []byte) ([]byte, error) {
	if len(b) == 8 {
		i := int(binary.NativeEndian.Uint32(b))
		errno := unix.Errno(binary.NativeEndian.Uint32(b[4:]))
		if i < len(c.steps) {
			if c.steps[i].nr == unix.SYS_UNSHARE && errno == unix.ENOSPC {
				return nil, fmt.Errorf("cannot %s: %w", c.steps[i].what, Limit(errno))
			}
			return nil, &Error{What: c.steps[i].what, Errno: errno}
		}
	}
	return b, nil
}

// forkChild forks; in the child it never returns. From the clone on, the child does raw system calls only: it shares no thread with the
// parent, so it may take no lock, allocate nothing and not grow its stack (the hook has spoiled the guard, so that an attempt crashes at once).
//
//go:noinline
//go:norace
//go:nocheckptr
func forkChild(p *Program, args *cloneArgs, old bool, c *Channel) (pid uintptr, errno unix.Errno) {
	// Everything the child touches is in registers, in p, or in memory that p keeps.
	var (
		steps   = p.steps
		channel = uintptr(c.child)
		parents = uintptr(c.parent)
		report  = uintptr(unsafe.Pointer(&p.report))
		i, n    int
		r       uintptr
		e       syscall.Errno
		execErr syscall.Errno
	)
	runtimeBeforeFork()
	if old {
		// clone(flags, stack, parent_tid (here: pidfd), ...): the pidfd goes where parent_tid would. Without CLONE_VM: this is the rare way.
		r, _, e = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(args.flags&^(unix.CLONE_VM|unix.CLONE_VFORK)|args.exitSignal), 0, uintptr(args.pidfd), 0, 0, 0)
	} else {
		r, e = vforkCall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args))
	}
	if e != 0 || r != 0 {
		return r, e
	}

	// In the child.
	runtimeAfterForkInChild()
	// Whoever holds the other end of the channel does not hear that its owner has gone.
	syscall.RawSyscall6(unix.SYS_CLOSE, parents, 0, 0, 0, 0, 0)
	for i = 0; i < len(steps); i++ {
		s := &steps[i]
		a0, a1, a2, a3, a4, a5 := s.args[0].value, s.args[1].value, s.args[2].value, s.args[3].value, s.args[4].value, s.args[5].value
		if s.args[0].slot >= 0 {
			a0 = p.slots[s.args[0].slot]
		}
		if s.args[1].slot >= 0 {
			a1 = p.slots[s.args[1].slot]
		}
		if s.args[2].slot >= 0 {
			a2 = p.slots[s.args[2].slot]
		}
		if s.args[3].slot >= 0 {
			a3 = p.slots[s.args[3].slot]
		}
		if s.args[4].slot >= 0 {
			a4 = p.slots[s.args[4].slot]
		}
		switch s.kind {
		case kindStore:
			*s.to = int32(a0)
			continue
		case kindInit:
			for n = 0; n < len(p.title); n++ { // before there is anybody to read it
				*(*byte)(unsafe.Add(p.argv, n)) = p.title[n]
			}
			// Signals are blocked before there is anybody to send one: none is lost, none ends init.
			syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&p.sigset)), uintptr(unsafe.Pointer(&p.oldset)), 8, 0, 0)
			r, _, e = syscall.RawSyscall6(s.nr, a0, 0, 0, 0, 0, 0)
			if e == 0 && r != 0 {
				goto initLoop
			}
			syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.oldset)), 0, 8, 0, 0)
		default:
			for {
				r, _, e = syscall.RawSyscall6(s.nr, a0, a1, a2, a3, a4, a5)
				if e != unix.EINTR || !s.retry {
					break
				}
			}
		}
		if e == 0 && r < s.short {
			e = unix.EPIPE
		}
		if e != 0 {
			if s.kind == kindExec {
				if execErr == 0 || e == unix.EACCES || (execErr == unix.ENOENT && e != unix.ENOTDIR) {
					execErr = e
				}
				if i+1 < len(steps) && (e == unix.ENOENT || e == unix.ENOTDIR || e == unix.EACCES) {
					continue
				}
				e = execErr
			} else if e == s.allow[0] || e == s.allow[1] || e == s.allow[2] {
				i += int(s.skipErr)
				continue
			}
			p.report[0], p.report[1] = uint32(i), uint32(e)
			syscall.RawSyscall6(unix.SYS_WRITE, channel, report, 8, 0, 0, 0)
			break
		}
		if s.out >= 0 {
			p.slots[s.out] = r
		}
		if s.nr == unix.SYS_DUP3 && a0 == channel {
			channel = a1
		}
		i += int(s.skipOK)
	}
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
	}

initLoop:
	// We are init and r is the payload: hold no descriptor of ours open, wait for signals with all of them blocked, reap, forward.
	{
		child := r
		syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, 0, 0xffffffff, 0, 0, 0, 0)
		set := uintptr(unsafe.Pointer(&p.sigset))
		info := uintptr(unsafe.Pointer(&p.siginfo))
		status := uintptr(unsafe.Pointer(&p.status))
		for {
			for {
				r, _, e = syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), status, unix.WNOHANG, 0, 0, 0)
				if e != 0 || r == 0 {
					break
				}
				if r == child {
					code := uintptr(p.status>>8) & 0xff
					if sig := uintptr(p.status) & 0x7f; sig != 0 {
						code = 128 + sig
					}
					syscall.RawSyscall6(unix.SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0)
				}
			}
			r, _, e = syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, set, info, 0, 8, 0, 0)
			// What the terminal sent (si_code at offset 8 is positive: from the kernel) reached the payload as well.
			if fromKernel := p.siginfo[8] != 0 && p.siginfo[11]&0x80 == 0; e == 0 && r != uintptr(unix.SIGCHLD) && !fromKernel {
				syscall.RawSyscall6(unix.SYS_KILL, child, r, 0, 0, 0, 0)
			}
		}
	}
}
