package oci

import (
	"context"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
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
	// Trees are detached mounts for binds whose source is no path here, by destination (OpenTree); the caller closes them.
	Trees map[string]*os.File
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
	// Held, when not nil, has another process start the container (Held.Ready). Not with Init or Unheld.
	Held *Held
	// Place is the directory of this mount namespace that the root is mounted at before it becomes the root; "" is Dir/rootfs.
	Place string
	// Keep is how many descriptors from 3 up the first process keeps.
	Keep int
	// Meanwhile, when not nil, is called with the first process's pid while that is being made: its namespaces are there already.
	Meanwhile func(pid int) error
	// Hooks, when not nil, is called when the namespaces and mounts are there and the root has not yet become the root; not with Unheld.
	Hooks func(pid int) error
}

// Held is a container that outlives the process that makes it, and that another process starts (the OCI runtime's command line). The first process waits for a connection
// on Listener; see Launch for the other side.
type Held struct {
	// Listener is a listening SOCK_SEQPACKET socket whose path the starting process knows.
	Listener *os.File
	// NoProgram says that the process is a stand-in which will never be started.
	NoProgram bool
	// Ready is called when everything is done that can be done before the start. Once it has returned without an error the container outlives us; until then it
	// ends with us. Steps are for Launch.
	Ready func(pid int, console *os.File, steps []string) error
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
	Path     string      // what to execute instead of Process.Args[0]
	Stdio    [3]*os.File // as in Bundle, when Process.Terminal is false
	Filter   []unix.SockFilter
	Cgroup   []string
	CgroupFD *os.File
	Keep     int // as in Bundle
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
		return "cannot execute " + config.Shown(e.Path) + ": executable file not found in $PATH"
	}
	return e.Step + " " + config.Shown(e.Path) + ": " + e.Errno.Error()
}

// Unwrap gives the errno.
func (e *ExecError) Unwrap() error { return e.Errno }
