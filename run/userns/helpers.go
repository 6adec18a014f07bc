package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// helper is a running newuidmap(1) or newgidmap(1). It is forked as everything on this path is: os/exec would probe for pidfds and start
// goroutines, which is a third of a millisecond.
type helper struct {
	name  string
	child *fork.Child
	said  *os.File // its standard output and error
}

// startHelpers starts newuidmap and newgidmap side by side for the user namespace of pid.
func startHelpers(pid int) (wait func() error, err error) {
	uids, gids, err := Subordinate()
	if err != nil {
		return nil, err
	}
	u, err := startHelper("newuidmap", mapArgs(pid, os.Geteuid(), uids))
	if err != nil {
		return nil, err
	}
	g, err := startHelper("newgidmap", mapArgs(pid, os.Getegid(), gids))
	if err != nil {
		return nil, errors.Join(err, u.wait())
	}
	return func() error {
		uerr := u.wait()
		gerr := g.wait()
		if uerr != nil {
			return uerr // the other's says the same, mostly
		}
		return gerr
	}, nil
}

// mapArgs are the arguments of newuidmap: our own id as 0, the subordinate ones behind it.
func mapArgs(pid, id int, subs []Extent) []string {
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(id), "1"}
	for _, e := range subs {
		for _, n := range []uint32{e.Inside, e.Outside, e.Count} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	return args
}

func startHelper(name string, args []string) (*helper, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, &Forbidden{
			Reason: name + " is not installed",
			Hint:   "install it: `sudo apt install uidmap` (Debian, Ubuntu), `sudo dnf install shadow-utils` (Fedora)",
		}
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	said := os.NewFile(uintptr(fds[0]), name)
	defer unix.Close(fds[1])
	channel, err := fork.NewChannel()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", name, err), said.Close())
	}
	p := &fork.Program{}
	for _, fd := range []int{1, 2} {
		p.Call("pass a descriptor", unix.SYS_DUP3, fork.Int(fds[1]), fork.Int(fd), fork.Int(0))
	}
	p.Call("execute "+path, unix.SYS_EXECVE, p.Str(path), p.Strings(append([]string{name}, args...)), p.Strings(os.Environ()))
	child, err := fork.Start(p, channel, fork.Options{Borrow: true})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", name, err), said.Close())
	}
	return &helper{name, child, said}, nil
}

// wait waits for the helper's end.
func (h *helper) wait() error {
	defer h.said.Close()
	_, startErr := h.child.Report()
	var ws unix.WaitStatus
	var err error
	for {
		if _, err = unix.Wait4(h.child.Pid, &ws, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	err = errors.Join(err, h.child.Channel.Close(), h.child.PidFD.Close())
	switch {
	case err != nil:
		return fmt.Errorf("cannot wait for %s: %w", h.name, err)
	case !errors.Is(startErr, io.EOF):
		return fmt.Errorf("cannot start %s: %w", h.name, startErr)
	case ws == 0:
		return nil
	}
	// What it has written fits into the pipe, since it has ended.
	text, err := io.ReadAll(h.said)
	reason := strings.TrimSpace(string(text))
	if err != nil || reason == "" {
		reason = fmt.Sprintf("exit status %d", ws.ExitStatus())
		if ws.Signaled() {
			reason = "ended by " + ws.Signal().String()
		}
	}
	return &Forbidden{
		Reason: h.name + " refused: " + reason,
		Hint: "check that " + h.name + " is set-uid root or has file capabilities (`ls -l $(which " + h.name +
			")`), and /etc/subuid and /etc/subgid; inside a container it must run without no_new_privs",
	}
}
