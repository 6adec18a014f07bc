package tests

// The tracer of the script command crash: ptrace(2) with PTRACE_SEIZE, which leaves no trace in processes that outlive it.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

type tracer struct {
	role     string // whose change is its last
	at       int
	counts   map[string]int
	names    map[int]string // of threads
	executed map[int]bool   // processes that have executed a program; the others are forked copies of their parent
	calls    map[int]bool   // threads that are in a system call which changes something
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC

// run starts the command, traces it and all that comes of it, and returns when the command has ended.
func (t *tracer) run(argv []string) error {
	// The shell waits until it is traced.
	cmd := exec.Command("sh", append([]string{"-c", `read go; exec "$@" </dev/null`, "sh"}, argv...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	root := cmd.Process.Pid
	if err := request(unix.PTRACE_SEIZE, root, 0, traceOptions); err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("%w: %w", errNoTrace, err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case status.Stopped():
			t.stopped(pid, status)
		case pid == root:
			return nil
		default:
			delete(t.names, pid)
			delete(t.calls, pid)
			delete(t.executed, pid)
		}
	}
}

// stopped looks at a thread that has stopped and lets it go on. Requests fail when it was killed meanwhile: then the next wait says so.
func (t *tracer) stopped(pid int, status unix.WaitStatus) {
	sig := status.StopSignal()
	switch event := int(status) >> 16; {
	case event == unix.PTRACE_EVENT_EXEC:
		t.names[pid], t.executed[pid], t.calls[pid] = nameOf(pid), true, false
		sig = 0
	case event == unix.PTRACE_EVENT_STOP && sig != unix.SIGTRAP:
		_ = request(unix.PTRACE_LISTEN, pid, 0, 0) // stopped by a signal: it stays so
		return
	case event != 0:
		sig = 0
	case sig == unix.SIGTRAP|0x80:
		t.syscall(pid)
		sig = 0
	}
	how := unix.PTRACE_SYSCALL
	if t.name(pid) == "" {
		how = unix.PTRACE_CONT // no program of ours; what it starts may be
		if t.executed[pid] && !isShell(pid) {
			how = unix.PTRACE_DETACH
		}
	}
	_ = request(how, pid, 0, uintptr(sig))
}

func (t *tracer) name(tid int) string {
	name, ok := t.names[tid]
	if !ok {
		name = nameOf(tid)
		t.names[tid] = name
	}
	return name
}

// syscall counts a change when the call that made it returns, and kills the process when it was the one.
func (t *tracer) syscall(tid int) {
	var info [88]byte // struct ptrace_syscall_info
	if _, err := requestSize(unix.PTRACE_GET_SYSCALL_INFO, tid, uintptr(len(info)), unsafe.Pointer(&info)); err != nil {
		return
	}
	number := func(i int) uint64 { return binary.NativeEndian.Uint64(info[24+8*i:]) }
	switch info[0] {
	case unix.PTRACE_SYSCALL_INFO_ENTRY:
		t.calls[tid] = t.changes(tid, number(0), number(1), number(2), number(3))
	case unix.PTRACE_SYSCALL_INFO_EXIT:
		failed := info[32] != 0
		if !t.calls[tid] || failed {
			return
		}
		t.calls[tid] = false
		process := groupOf(tid)
		role := t.name(tid)
		if !t.executed[process] {
			role += ", forked"
		}
		t.counts[role]++
		if role == t.role && t.counts[role] == t.at {
			_ = unix.Kill(process, unix.SIGKILL)
		}
	}
}

// changes says whether a system call changes something on disk if it succeeds.
func (t *tracer) changes(tid int, nr, a, _, c uint64) bool {
	switch nr {
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_SYMLINKAT, unix.SYS_LINKAT, unix.SYS_FTRUNCATE:
		return true
	case unix.SYS_OPENAT:
		return c&unix.O_CREAT != 0
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV:
		file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(a)))
		return err == nil && strings.HasPrefix(file, "/") && !strings.HasPrefix(file, "/proc/") && !strings.HasPrefix(file, "/dev/") && !strings.HasPrefix(file, "/sys/")
	}
	return changesOld(nr)
}

func isShell(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	name, _, _ := strings.Cut(string(data), "\x00")
	return err == nil && (filepath.Base(name) == "sh" || filepath.Base(name) == "timeout")
}

// groupOf is the process of a thread.
func groupOf(tid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, rest, _ := strings.Cut(string(data), "\nTgid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	if pid, err := strconv.Atoi(line); err == nil {
		return pid
	}
	return tid
}

func request(what, pid int, addr, data uintptr) error {
	if _, _, errno := syscall.RawSyscall6(unix.SYS_PTRACE, uintptr(what), uintptr(pid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func requestSize(what, pid int, size uintptr, data unsafe.Pointer) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_PTRACE, uintptr(what), uintptr(pid), size, uintptr(data), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
