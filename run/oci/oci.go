package oci

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Runtime makes containers out of OCI runtime specs. Its methods run in a process that is root in the user's
// user namespace and has a mount namespace of its own: the monitor, or the engine during a build.
type Runtime interface {
	// Create makes the namespaces, mounts and limits that the bundle asks for and leaves the container's first
	// process just before its execve(2). On error nothing is left.
	Create(ctx context.Context, b Bundle) (Container, error)
}

// Bundle is one container to be made.
type Bundle struct {
	ID string
	// Dir is a directory of the container's own; Dir/rootfs exists and is empty (a place to mount on). An external runtime gets Dir/config.json.
	Dir  string
	Spec *specs.Spec
	// Rootfs is the root file system: a detached mount (open_tree(2), fsmount(2)) or a directory's descriptor.
	Rootfs *os.File
	// Detached says that Rootfs is a detached mount, which the container takes over.
	Detached bool
	// Stdio are the descriptors of the first process, when Spec.Process.Terminal is false; nil is /dev/null.
	Stdio [3]*os.File
	// Filter is the compiled seccomp program; nil is none. (An external runtime compiles Spec.Linux.Seccomp itself.)
	Filter []unix.SockFilter
	// Cgroup lists directories of control groups that the first process is put into before it runs anything (cgroup.procs is written); CgroupFD, when not nil, is a v2
	// group it is cloned into.
	Cgroup   []string
	CgroupFD *os.File
	// Init puts a small init in front of the process, which reaps orphans and forwards signals.
	Init bool
	// Unheld says that there is nothing to do between Create and Start: Create returns while the first process is still being made, which does not wait, and
	// Start has its errors too. Not with a terminal.
	Unheld bool
	// Meanwhile, when not nil, is called with the first process's pid while that is being made: its namespaces are there already.
	Meanwhile func(pid int) error
}

// Container is a made container.
type Container interface {
	// Process is the container's first process.
	Process
	// Start lets the first process execute the payload; it returns when that has happened, or an *ExecError.
	Start() error
	// Exec starts another process in the container's namespaces. Filter as in Bundle.
	Exec(ctx context.Context, e Exec) (Process, error)
	// Root is the container's root directory as the container sees it (an O_PATH descriptor), for cp and user look-ups; the caller closes it.
	Root() (*os.File, error)
	// Delete frees what the runtime holds (descriptors, cgroups of an external runtime). The first process must have ended.
	Delete() error
}

// Exec is one more process in a running container.
type Exec struct {
	Process  *specs.Process
	Stdio    [3]*os.File // as in Bundle, when Process.Terminal is false
	Filter   []unix.SockFilter
	Cgroup   []string
	CgroupFD *os.File
}

// Process is a process that runs in a container.
type Process interface {
	// Pid is its id in the calling process's pid namespace.
	Pid() int
	// Console is the controlling side of its terminal; nil without Terminal.
	Console() *os.File
	Signal(sig unix.Signal) error
	// Wait returns its end: exit code, or 128+n after signal n. It can be called once.
	Wait() (code int, err error)
}

// ExecError says that the payload could not be executed: Errno ENOENT is Docker's exit code 127, EACCES, ENOEXEC and others 126.
type ExecError struct {
	Path  string // as asked for
	Step  string // "exec", "chdir", "find in $PATH"
	Errno unix.Errno
}

func (e *ExecError) Error() string {
	if e.Step == "find in $PATH" && e.Errno == unix.ENOENT {
		return "cannot execute " + e.Path + ": executable file not found in $PATH"
	}
	return e.Step + " " + e.Path + ": " + e.Errno.Error()
}

// Unwrap gives the errno.
func (e *ExecError) Unwrap() error { return e.Errno }
