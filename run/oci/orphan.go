package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// family is what becomes of a runtime's processes, which the calling process gets as their subreaper: the containers' processes, which somebody waits for, and
// short-lived ones of the runtime itself, which nobody does.
type family struct {
	mu      sync.Mutex // held while a program of the runtime runs, whose end its caller waits for
	name    string     // the runtime's program, as its processes are called
	adopted map[int]bool
}

// commLength is how much of a program's name the kernel keeps.
const commLength = 15

func newFamily(name string) *family {
	return &family{name: name[:min(len(name), commLength)], adopted: map[int]bool{}}
}

func (f *family) lock() { f.mu.Lock(); f.bury() }

func (f *family) unlock() { f.bury(); f.mu.Unlock() }

// bury reaps ended processes of the runtime itself.
func (f *family) bury() {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil || f.adopted[pid] {
				continue
			}
			if name, err := os.ReadFile("/proc/" + word + "/comm"); err == nil && strings.TrimSpace(string(name)) == f.name {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // it may live
			}
		}
	}
}

// adopt takes over a process of a container. The lock is held.
func (f *family) adopt(pid int) (*orphan, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	f.adopted[pid] = true
	return &orphan{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), family: f}, nil
}

// orphan is a process of a container that an external runtime made and left to us.
type orphan struct {
	pid     int
	pidfd   *os.File
	console *os.File
	family  *family
}

// Pid implements Process.
func (o *orphan) Pid() int { return o.pid }

// Console implements Process.
func (o *orphan) Console() *os.File { return o.console }

// Signal implements Process.
func (o *orphan) Signal(sig unix.Signal) error { return signal(o.pidfd, sig) }

// Wait implements Process.
func (o *orphan) Wait() (int, error) {
	code, err := wait(o.pidfd, o.pid)
	o.family.lock()
	delete(o.family.adopted, o.pid)
	o.family.unlock()
	return code, err
}

// signal sends a signal to the process of a pidfd; one whose pidfd is closed has ended.
func signal(pidfd *os.File, sig unix.Signal) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return unix.ESRCH
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return unix.ESRCH
	}
	return sent
}

// wait waits for a child's end and closes its pidfd. It blocks no thread: a pidfd becomes readable when its process ends (pidfd_open(2)).
func wait(pidfd *os.File, pid int) (int, error) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("cannot wait for process %d: %w", pid, err)
	}
	var ws unix.WaitStatus
	var waitErr error
	err = raw.Read(func(uintptr) bool {
		var got int
		for {
			got, waitErr = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
			if !errors.Is(waitErr, unix.EINTR) {
				break
			}
		}
		return waitErr != nil || got != 0
	})
	if err == nil {
		err = waitErr
	}
	if err != nil {
		return -1, fmt.Errorf("cannot wait for process %d: %w", pid, err)
	}
	if err := pidfd.Close(); err != nil {
		return -1, fmt.Errorf("cannot wait for process %d: %w", pid, err)
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// rootOf opens the root directory of a process.
func rootOf(pid int) (*os.File, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's root: %w", err)
	}
	return f, nil
}

// consoleSocket is where a runtime sends the controlling side of a terminal to.
type consoleSocket struct {
	path string
	fd   int
	dir  string
}

// listenConsole makes the socket in a directory of its own below base's parent; a socket's path has 108 bytes, so it is named through a descriptor when longer.
func listenConsole(base string) (*consoleSocket, error) {
	dir, err := os.MkdirTemp("", "skiff-console-")
	if err != nil {
		return nil, fmt.Errorf("cannot make the console socket for %s: %w", base, err)
	}
	s := &consoleSocket{path: dir + "/socket", dir: dir}
	if s.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
		if err = unix.Bind(s.fd, &unix.SockaddrUnix{Name: s.path}); err == nil {
			err = unix.Listen(s.fd, 1)
		}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cannot make the console socket: %w", err)
	}
	return s, nil
}

// receive takes the terminal: the runtime has sent it before it ended.
func (s *consoleSocket) receive() (*os.File, error) {
	poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 5000); err != nil || n == 0 {
		return nil, errors.New("the runtime sent no terminal")
	}
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	defer unix.Close(fd)
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot receive the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("the runtime sent no terminal")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("the runtime sent no terminal")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, fmt.Errorf("cannot use the terminal: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

func (s *consoleSocket) close() {
	_ = unix.Close(s.fd)    // -1 when it was never made
	_ = os.RemoveAll(s.dir) // in the temporary directory, ours
}
