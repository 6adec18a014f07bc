package tests

// More of what the hostile program does: system calls that tell who refuses them, and a monitor's control socket.

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attackFilter makes system calls with arguments to which the kernel would have another answer than the filter, whoever asks, and prints the answers. So a refusal
// is the filter's and not that of a capability which is missing, or of a switch of the kernel's.
func attackFilter() {
	const nowhere = 1 // a pointer to nothing
	for _, c := range []struct {
		name   string
		number uintptr
		args   [5]uintptr
	}{
		{"AF_ALG", unix.SYS_SOCKET, [5]uintptr{unix.AF_ALG, 15}},            // EINVAL: no such type
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [5]uintptr{1, nowhere}}, // EFAULT
		{"io_uring_enter", unix.SYS_IO_URING_ENTER, [5]uintptr{^uintptr(0)}},
		{"bpf", unix.SYS_BPF, [5]uintptr{9999, 0, 0}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [5]uintptr{0x4001}}, // EINVAL: a flag that does not exist beside UFFD_USER_MODE_ONLY, which anybody may use
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [5]uintptr{0, 0, 0, 0, 1 << 30}},
		{"keyctl", unix.SYS_KEYCTL, [5]uintptr{9999}},
		{"add_key", unix.SYS_ADD_KEY, [5]uintptr{nowhere}},
		{"request_key", unix.SYS_REQUEST_KEY, [5]uintptr{nowhere}},
		{"quotactl", unix.SYS_QUOTACTL, [5]uintptr{0xff}},
		{"mount", unix.SYS_MOUNT, [5]uintptr{0, 0, nowhere}},
		{"umount", unix.SYS_UMOUNT2, [5]uintptr{nowhere, 1 << 30}},
		{"open_tree", unix.SYS_OPEN_TREE, [5]uintptr{0, nowhere, 1 << 30}},
		{"mount_setattr", unix.SYS_MOUNT_SETATTR, [5]uintptr{0, nowhere, 1 << 30}},
		{"fsconfig", unix.SYS_FSCONFIG, [5]uintptr{^uintptr(0)}},
		{"unshare", unix.SYS_UNSHARE, [5]uintptr{1}},
		{"setns", unix.SYS_SETNS, [5]uintptr{^uintptr(0), 0}},
		{"clone3", unix.SYS_CLONE3, [5]uintptr{nowhere, 1}},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, [5]uintptr{nowhere}},
	} {
		_, _, errno := unix.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], 0)
		fmt.Println(c.name+":", unix.ErrnoName(errno))
	}
}

// attackSocket talks to a monitor's socket as who it is: whoever is another user gets no answer, and nothing that the same user says harms the monitor. With $AS it
// becomes that user first.
func attackSocket(path string) {
	if as, err := strconv.Atoi(os.Getenv("AS")); err == nil {
		if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(as, as, as), unix.Setresuid(as, as, as)); err != nil {
			fmt.Println("cannot become", as, err)
			return
		}
	}
	for _, m := range []struct{ name, text string }{
		{"wait", `{"op":"wait"}`},
		{"exec", `{"op":"exec","exec":{"args":["touch","/reached"]}}`},
		{"nothing", ``},
		{"no json", `{"op":`},
		{"wrong type", `{"op":7,"exec":[]}`},
		{"unknown", `{"op":"no such thing"}`},
		{"start", `{"op":"start","id":"../../../../etc"}`},
		{"stop of nonsense", `{"op":"stop","signal":-1,"timeout":"x"}`},
		{"deep", strings.Repeat(`{"exec":`, 10000)},
		{"oversized", `{"op":"` + strings.Repeat("x", 150<<10) + `"}`},
	} {
		answer, err := say(path, m.text)
		switch {
		case err != nil:
			fmt.Printf("refused %s: %v\n", m.name, err)
		case answer == "":
			fmt.Println("refused", m.name)
		default:
			fmt.Println("ANSWERED", m.name+":", answer)
		}
	}
	// More connections than anybody needs, which say nothing.
	var held []int
	for range 300 {
		if fd, err := dialMonitor(path); err == nil {
			held = append(held, fd)
		}
	}
	fmt.Println("connected", len(held))
	if os.Getenv("HOLD") != "" {
		fmt.Println("holding")
		time.Sleep(time.Hour)
	}
}

func dialMonitor(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// say sends one message and returns the beginning of what comes back within a second.
func say(path, text string) (string, error) {
	fd, err := dialMonitor(path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return "", err
	}
	if err := unix.Sendto(fd, []byte(text), unix.MSG_NOSIGNAL, nil); err != nil {
		return "", err
	}
	buf := make([]byte, 200)
	n, err := unix.Read(fd, buf)
	return string(buf[:max(n, 0)]), err
}
