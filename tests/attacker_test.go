package tests

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// attackerName is what the test binary is called when it is a hostile program inside a container: it is static, so it runs in any image.
const attackerName = "attacker"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == attackerName {
		os.Exit(attack(os.Args[1:]))
	}
	if filepath.Base(os.Args[0]) == loadName {
		os.Exit(load(os.Args[1:]))
	}
	if filepath.Base(os.Args[0]) == resolverName {
		os.Exit(resolve(os.Args[1:]))
	}
	if os.Args[0] == crasherName {
		os.Exit(crash(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// cmdAttacker puts the hostile program into the script's directory.
func cmdAttacker(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(putSelf(ts.MkAbs(attackerName)))
}

// putSelf copies the test binary, which is what it is called.
func putSelf(to string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := os.Open(self)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// cmdLoader puts the generator of traffic into the script's directory: loader.
func cmdLoader(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(putSelf(ts.MkAbs(loadName)))
}

// attack makes one kind of attack and prints a line for each attempt: "refused NAME", or "REACHED NAME: what came of it".
func attack(args []string) int {
	if len(args) == 0 {
		return 2
	}
	switch args[0] {
	case "syscalls":
		attackSyscalls()
	case "filtered":
		attackFilter()
	case "socket":
		attackSocket(args[1])
	case "neighbours":
		return attackNeighbours(args[1:])
	case "say", "hear":
		return attackDatagrams(args[0], args[1:])
	case "process":
		pid, err := strconv.Atoi(args[1])
		if err != nil {
			return 2
		}
		attackProcess(pid)
	case "outlive": // the monitor, whose end is to be ours
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
			return 2
		}
		fmt.Println("untied")
		time.Sleep(time.Hour)
	case "overwrite":
		for _, name := range args[1:] {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			verdict("open "+name+" for writing", err, unix.EPERM, unix.EACCES, unix.ENOENT, unix.EROFS, unix.ETXTBSY, unix.ELOOP)
		}
	default:
		return 2
	}
	return 0
}

// verdict prints what an attempt came to; refusals lists the errors that count as one.
func verdict(name string, err error, refusals ...unix.Errno) {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			fmt.Println("refused", name)
			return
		}
	}
	fmt.Printf("REACHED %s: %v\n", name, err)
}

// attackSyscalls makes the calls that Docker's default profile and capabilities keep from containers.
func attackSyscalls() {
	type call struct {
		name   string
		number uintptr
		args   [4]uintptr
	}
	text := func(s string) uintptr { return uintptr(unsafe.Pointer(&append([]byte(s), 0)[0])) }
	for _, c := range []call{
		{"AF_ALG", unix.SYS_SOCKET, [4]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}},
		{"AF_VSOCK", unix.SYS_SOCKET, [4]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [4]uintptr{}},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [4]uintptr{8, text("                                                                                                                        ")}},
		{"bpf", unix.SYS_BPF, [4]uintptr{unix.BPF_PROG_LOAD, 0, 0}},
		{"keyctl", unix.SYS_KEYCTL, [4]uintptr{unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2)}},
		{"add_key", unix.SYS_ADD_KEY, [4]uintptr{text("user"), text("x"), text("y"), 1}},
		{"request_key", unix.SYS_REQUEST_KEY, [4]uintptr{text("user"), text("x")}},
		{"fsopen", unix.SYS_FSOPEN, [4]uintptr{text("tmpfs")}},
		{"fspick", unix.SYS_FSPICK, [4]uintptr{0, text("/")}},
		{"open_tree", unix.SYS_OPEN_TREE, [4]uintptr{0, text("/"), unix.OPEN_TREE_CLONE}},
		{"move_mount", unix.SYS_MOVE_MOUNT, [4]uintptr{0, text("/proc"), 0, text("/tmp")}},
		{"mount_setattr", unix.SYS_MOUNT_SETATTR, [4]uintptr{0, text("/"), 0, 0}},
		{"mount", unix.SYS_MOUNT, [4]uintptr{text("none"), text("/tmp"), text("tmpfs"), 0}},
		{"umount", unix.SYS_UMOUNT2, [4]uintptr{text("/proc"), unix.MNT_DETACH}},
		{"pivot_root", unix.SYS_PIVOT_ROOT, [4]uintptr{text("/"), text("/")}},
		{"unshare user", unix.SYS_UNSHARE, [4]uintptr{unix.CLONE_NEWUSER}},
		{"unshare mounts", unix.SYS_UNSHARE, [4]uintptr{unix.CLONE_NEWNS}},
		{"clone user", unix.SYS_CLONE, [4]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}},
		{"clone3", unix.SYS_CLONE3, [4]uintptr{}},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [4]uintptr{0, 0, 0}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [4]uintptr{}},
		{"kexec_load", unix.SYS_KEXEC_LOAD, [4]uintptr{}},
		{"init_module", unix.SYS_INIT_MODULE, [4]uintptr{}},
		{"finit_module", unix.SYS_FINIT_MODULE, [4]uintptr{}},
		{"reboot", unix.SYS_REBOOT, [4]uintptr{}},
		{"swapon", unix.SYS_SWAPON, [4]uintptr{}},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, [4]uintptr{}},
		{"quotactl", unix.SYS_QUOTACTL, [4]uintptr{}},
		{"acct", unix.SYS_ACCT, [4]uintptr{}},
	} {
		got, _, errno := unix.Syscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], 0, 0)
		if c.name == "clone user" && errno == 0 && got == 0 {
			os.Exit(0) // the child
		}
		var err error
		if errno != 0 {
			err = errno
		}
		refusal := unix.EPERM
		if c.name == "clone3" {
			refusal = unix.ENOSYS // C libraries do without it then
		}
		verdict(c.name, err, refusal)
	}
	for _, kind := range []string{"mnt", "user", "pid", "net", "ipc", "uts", "cgroup"} {
		fd, err := unix.Open("/proc/1/ns/"+kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, 0)
			unix.Close(fd)
		}
		verdict("setns "+kind, err, unix.EPERM, unix.EACCES) // EACCES: another user may not even open it
	}
}

// attackProcess goes for a process of the host by the number that it has there.
func attackProcess(pid int) {
	gone := []unix.Errno{unix.ESRCH, unix.EPERM, unix.ENOENT, unix.EACCES, unix.ENOSYS}
	verdict("ptrace", unix.PtraceAttach(pid), gone...)
	buf := make([]byte, 8)
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	verdict("read memory", err, gone...)
	for _, name := range []string{"mem", "root/etc/passwd", "exe", "environ", "fd/0", "ns/mnt"} {
		name = fmt.Sprintf("/proc/%d/%s", pid, name)
		f, err := os.Open(name)
		if err == nil {
			f.Close()
		}
		verdict("open "+name, err, gone...)
	}
	if os.Getenv("SIGNALS") != "" {
		verdict("kill", unix.Kill(pid, unix.SIGKILL), gone...)
	}
}
