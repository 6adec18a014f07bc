package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
)

// The conversation between the process that the user started (outside) and the one in the container's user namespace (inside):
//
//	outside                                    inside
//	  |-- request + config, listener ----------->|
//	  |<- hooks{pid} ----------------------------|  create: all is mounted
//	  |   (prestart, createRuntime)              |
//	  |-- go on -------------------------------->|  (createContainer)
//	  |<- ready{pid, steps} + console -----------|
//	  |   (console, pid file, state)             |
//	  |-- go on -------------------------------->|  ends; the container's process stays
//
// Instead of any message inside may send failed. When either side dies the other one reads the end of the connection and gives up.

// Operations of a request.
const (
	opCreate = "create"
	opExec   = "exec"
	opHooks  = "hooks" // run the startContainer hooks
)

// request is what outside asks. Beside it come the spec (create, hooks) or the process (exec), and for create the listener.
type request struct {
	Op     string      `json:"op"`
	ID     string      `json:"id"`
	Bundle string      `json:"bundle"`
	Rootfs string      `json:"rootfs"`
	Groups []string    `json:"groups,omitzero"`
	Keep   int         `json:"keep,omitzero"`
	Pid    int         `json:"pid,omitzero"` // exec, hooks: the container's first process
	State  specs.State `json:"state,omitzero"`
}

// Kinds of replies.
const (
	replyHooks  = "hooks"
	replyReady  = "ready"
	replyFailed = "failed"
)

// reply is what inside says.
type reply struct {
	Kind  string     `json:"kind"`
	Pid   int        `json:"pid,omitzero"`
	Steps []string   `json:"steps,omitzero"`
	Warn  []string   `json:"warn,omitzero"` // what could not be granted
	Error string     `json:"error,omitzero"`
	Hint  string     `json:"hint,omitzero"`
	Exec  string     `json:"exec,omitzero"` // with Step and Errno: an oci.ExecError
	Step  string     `json:"step,omitzero"`
	Errno unix.Errno `json:"errno,omitzero"`
}

// goOn is outside's word.
type goOn struct {
	Go bool `json:"go"`
}

// inside is a started process inside.
type inside struct {
	child *userns.Child
	conn  *stage.Conn
}

// enter starts the process inside: in the user namespace that the spec asks for, or of the container's first process when there is one.
func (c *Container) enter(stdio [3]*os.File, keep int) (*inside, error) {
	maps, join, err := c.userNamespace()
	if err != nil {
		return nil, err
	}
	if join != nil {
		defer join.Close()
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find skiff's own executable: %w", err)
	}
	conn, theirs, err := stage.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	files := stdio[:]
	for fd := range keep {
		files = append(files, os.NewFile(uintptr(3+fd), "kept"))
	}
	child, err := userns.Enter(userns.Options{
		Path: self, Args: []string{Stage, fmt.Sprint(3 + keep)}, Files: append(files, theirs),
	}, maps, join)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &inside{child, conn}, nil
}

// userNamespace is where the container's processes are made: maps for a new namespace, or one to join; neither is our own.
func (c *Container) userNamespace() (maps *userns.Maps, join *os.File, err error) {
	path := ""
	i := slices.IndexFunc(c.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	switch {
	case c.Pid > 0:
		path = fmt.Sprintf("/proc/%d/ns/user", c.Pid)
	case i >= 0:
		path = c.Spec.Linux.Namespaces[i].Path
	case !root():
		return nil, nil, &FieldError{"linux.namespaces", "there is no user namespace among them, and this process is not root in one"}
	default:
		return nil, nil, nil
	}
	if path != "" {
		if join, err = os.Open(path); err != nil {
			return nil, nil, fmt.Errorf("cannot join the user namespace: %w", err)
		}
		return nil, join, nil
	}
	return &userns.Maps{UIDs: extents(c.Spec.Linux.UIDMappings), GIDs: extents(c.Spec.Linux.GIDMappings)}, nil, nil
}

func extents(list []specs.LinuxIDMapping) (out []userns.Extent) {
	for _, m := range list {
		out = append(out, userns.Extent{Inside: m.ContainerID, Outside: m.HostID, Count: m.Size})
	}
	return out
}

// root says whether this process may mount in its user namespace.
func root() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 && os.Geteuid() == 0
}

// converse sends the request and answers inside's messages with at, whose error is sent nowhere: inside gives up when we hang up. It returns when inside has ended.
func (in *inside) converse(req request, files []*os.File, at func(reply, *os.File) error) error {
	err := in.conn.Send(req, files...)
	for err == nil {
		var r reply
		var got []*os.File
		if got, err = in.conn.Receive(&r); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the process that makes the container was killed")
			}
			break
		}
		if r.Kind == replyFailed {
			err = r.err()
			break
		}
		var console *os.File
		if len(got) > 0 {
			console = got[0]
		}
		if err = at(r, console); err == nil {
			err = in.conn.Send(goOn{true})
		}
		for _, f := range got {
			f.Close()
		}
		if r.Kind == replyReady {
			break
		}
	}
	return errors.Join(err, in.close())
}

// close hangs up and waits for inside's end.
func (in *inside) close() error {
	err := in.conn.Close()
	_, waitErr := in.child.Wait()
	return errors.Join(err, waitErr)
}

func (r reply) err() error {
	if r.Exec != "" {
		return &oci.ExecError{Path: r.Exec, Step: r.Step, Errno: r.Errno}
	}
	return &failure{r.Error, r.Hint}
}

// failure is an error from inside.
type failure struct{ text, hint string }

func (f *failure) Error() string { return f.text }

// HintText is what the user can do.
func (f *failure) HintText() string { return f.hint }

// failed is the reply for an error.
func failed(err error) reply {
	r := reply{Kind: replyFailed, Error: err.Error()}
	var hint interface{ HintText() string }
	if errors.As(err, &hint) {
		r.Hint = hint.HintText()
	}
	var exec *oci.ExecError
	if errors.As(err, &exec) {
		r.Exec, r.Step, r.Errno = exec.Path, exec.Step, exec.Errno
	}
	return r
}
