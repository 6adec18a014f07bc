package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/stage"
)

// ExecOptions of Exec.
type ExecOptions struct {
	Process *specs.Process
	PidFile string
	// Console takes the process's terminal; nil when it has none.
	Console func(*os.File) error
	Keep    int // as in Options
	Stdio   [3]*os.File
}

// Exec starts one more process in a container. It becomes the child of our subreaper, or ours when we are one. Its program is executed when Exec returns.
func (c *Container) Exec(o ExecOptions) (pid int, err error) {
	if err := CheckProcess("process", o.Process); err != nil {
		return 0, err
	}
	if status := c.Status(); status != specs.StateCreated && status != specs.StateRunning {
		return 0, fmt.Errorf("cannot execute in container %q: it is %s", c.ID, status)
	}
	s := execSpec{o.Process, c.Spec.Linux.Seccomp}
	text, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	config, err := memory(text)
	if err != nil {
		return 0, err
	}
	defer config.Close()
	in, err := c.enter(o.Stdio, o.Keep)
	if err != nil {
		return 0, err
	}
	req := request{Op: opExec, ID: c.ID, Pid: c.Pid, Groups: c.Groups, Keep: o.Keep}
	err = in.converse(req, []*os.File{config}, func(r reply, console *os.File) error {
		pid = r.Pid
		c.Warnings = r.Warn
		if o.Console != nil {
			if err := o.Console(console); err != nil {
				return err
			}
		}
		return writePid(o.PidFile, pid)
	})
	return pid, err
}

// execSpec is what exec hands over: the process and the container's filter.
type execSpec struct {
	Process *specs.Process      `json:"process"`
	Seccomp *specs.LinuxSeccomp `json:"seccomp,omitempty"`
}

// memory is a file without a name that contains text.
func memory(text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("config", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot hand over the configuration: %w", err)
	}
	f := os.NewFile(uintptr(fd), "config")
	if _, err = f.Write(text); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot hand over the configuration: %w", err), f.Close())
	}
	return f, nil
}

func insideExec(conn *stage.Conn, req request, files []*os.File) error {
	var s execSpec
	if len(files) != 1 {
		return errors.New("a process is needed")
	}
	if err := decode(files[0], &s); err != nil {
		return err
	}
	if err := checkInside(s.Process, "process"); err != nil {
		return err
	}
	warnings := oci.Grant(s.Process.Capabilities)
	filter, err := compile(&specs.Spec{Process: s.Process, Linux: &specs.Linux{Seccomp: s.Seccomp}})
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(req.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot execute in the container: %w", err)
	}
	e := oci.Exec{Process: s.Process, Filter: filter, Cgroup: req.Groups, Keep: req.Keep}
	if !s.Process.Terminal {
		e.Stdio = stdio()
	}
	p, err := oci.Running(req.Pid, os.NewFile(uintptr(fd), "pidfd")).Exec(context.Background(), e)
	if err != nil {
		return err
	}
	r := reply{Kind: replyReady, Pid: p.Pid(), Warn: warnings}
	if console := p.Console(); console != nil {
		err = talk(conn, r, console)
	} else {
		err = talk(conn, r)
	}
	if err != nil {
		err = errors.Join(err, p.Signal(unix.SIGKILL))
	}
	return err
}
