package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
	"github.com/skiff-containers/skiff/storage/disk"
)

// External runs containers with another OCI runtime's program, by the command line that all of them share (create, start, exec, delete, with --root, --bundle,
// --pid-file and --console-socket). The program's containers become children of the calling process, which makes itself their subreaper.
type External struct{ Path string }

// baseVersion is the version of the runtime spec that is said: all that is used was in it, and older runtimes refuse to read newer ones.
const baseVersion = "1.0.2"

// defaultDevices are supplied by every runtime (runtime-spec, config-linux.md, "Default Devices").
var defaultDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// external is a container made by External.
type external struct {
	*orphan
	runtime External
	id      string
	root    string // the runtime's own state
	bundle  string
	rootfs  string // where the root file system was mounted for it; "" when it was there
	family  *family
}

// Create implements Runtime. Resources and control groups are skiff's business: the runtime is started inside the groups, and told of none.
func (x External) Create(_ context.Context, b Bundle) (Container, error) {
	if b.Init {
		return nil, fmt.Errorf("cannot use --init with runtime %s: the small init is part of skiff's own runtime", x.name())
	}
	if len(b.Trees) > 0 {
		return nil, fmt.Errorf("cannot share a mount of another container with runtime %s: that is part of skiff's own runtime", x.name())
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot use runtime %s: %w", x.name(), err)
	}
	if err := x.hideHybrid(); err != nil {
		return nil, err
	}
	rootfs := filepath.Join(b.Dir, "rootfs")
	c := &external{runtime: x, id: b.ID, root: filepath.Join(b.Dir, "runtime"), bundle: b.Dir, family: newFamily(x.name())}
	placed, err := x.placeRoot(b, rootfs)
	if err != nil {
		return nil, err
	}
	if placed {
		c.rootfs = rootfs
	}
	spec := *b.Spec
	linux := *b.Spec.Linux
	spec.Linux, spec.Root = &linux, &specs.Root{Path: rootfs, Readonly: b.Spec.Root != nil && b.Spec.Root.Readonly}
	linux.Resources, linux.CgroupsPath = nil, ""
	spec.Version = baseVersion
	spec.Mounts = slices.DeleteFunc(slices.Clone(spec.Mounts), func(m specs.Mount) bool { return slices.Contains(defaultDevices, m.Destination) })
	data, err := json.Marshal(spec)
	if err == nil {
		err = disk.WriteFile(filepath.Join(b.Dir, "config.json"), data, 0o600, false)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write the bundle: %w", err), c.Delete())
	}
	c.orphan, err = c.spawn(b.Cgroup, b.Stdio, spec.Process.Terminal, "create", "--bundle", b.Dir)
	if err != nil {
		return nil, errors.Join(x.explain(err, spec.Process.Args[0]), c.Delete())
	}
	if b.Meanwhile != nil {
		if err := b.Meanwhile(c.Pid()); err != nil {
			return nil, errors.Join(err, c.Delete())
		}
	}
	return c, nil
}

// hideHybrid covers the unified hierarchy of a hybrid host, in the calling process's own mount namespace: crun refuses such hosts, though it has nothing
// to do with control groups here.
func (x External) hideHybrid() error {
	const unified = "/sys/fs/cgroup/unified"
	var st unix.Statfs_t
	if !strings.Contains(x.name(), "crun") || unix.Statfs(unified, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	if err := unix.Mount("none", unified, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,mode=0555"); err != nil {
		return fmt.Errorf("cannot use runtime %s: cannot cover %s: %w", x.name(), unified, err)
	}
	return nil
}

// placeRoot mounts the root file system at dir, in the calling process's own mount namespace, unless that is where it is.
func (x External) placeRoot(b Bundle, dir string) (placed bool, err error) {
	if b.Detached {
		placed = true
		err = unix.MoveMount(int(b.Rootfs.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	} else if at := fmt.Sprintf("/proc/self/fd/%d", b.Rootfs.Fd()); !samePlace(at, dir) {
		placed = true
		err = unix.Mount(at, dir, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return false, fmt.Errorf("cannot mount the container's root for runtime %s: %w", x.name(), err)
	}
	return placed, nil
}

func samePlace(a, b string) bool {
	sa, err := os.Stat(a)
	sb, errB := os.Stat(b)
	return err == nil && errB == nil && os.SameFile(sa, sb)
}

func (x External) name() string { return filepath.Base(x.Path) }

// command is a call of the runtime: its global options, the verb with its options, the container's id.
func (c *external) command(verb string, args ...string) []string {
	argv := []string{c.runtime.Path, "--root", c.root, "--log", c.log(), "--log-format", "json"}
	if strings.Contains(c.runtime.name(), "crun") {
		argv = append(argv, "--cgroup-manager=disabled") // the groups are made by skiff; crun insists on some otherwise
	}
	return append(append(append(argv, verb), args...), c.id)
}

func (c *external) log() string { return filepath.Join(c.bundle, "runtime.log") }

// spawn runs the verb that makes a process (create, exec) inside the control groups with the process's streams, and adopts what it has made.
func (c *external) spawn(groups []string, stdio [3]*os.File, terminal bool, verb string, args ...string) (*orphan, error) {
	pidFile := filepath.Join(c.bundle, verb+".pid")
	args = append(args, "--pid-file", pidFile)
	var console *consoleSocket
	if terminal {
		var err error
		if console, err = listenConsole(filepath.Join(c.bundle, "console")); err != nil {
			return nil, err
		}
		defer console.close()
		args = append(args, "--console-socket", console.path)
	}
	if err := os.Remove(c.log()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot use runtime %s: %w", c.runtime.name(), err)
	}
	c.family.lock()
	defer c.family.unlock()
	if err := c.run(groups, stdio, terminal, c.command(verb, args...)); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, fmt.Errorf("runtime %s left no pid: %w", c.runtime.name(), err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("runtime %s left a pid that is none: %q", c.runtime.name(), text)
	}
	o, err := c.family.adopt(pid)
	if err == nil && terminal {
		o.console, err = console.receive()
	}
	return o, err
}

// call runs a command that makes no process.
func (c *external) call(argv []string) error {
	c.family.lock()
	defer c.family.unlock()
	return c.run(nil, [3]*os.File{}, true, argv)
}

// run runs a command to its end. Its failure is what it has logged, and with own what it has printed: then its output is its own, not a process's of the container.
func (c *external) run(groups []string, stdio [3]*os.File, own bool, argv []string) error {
	channel, err := fork.NewChannel()
	if err != nil {
		return err
	}
	b := newBuilder()
	defer b.Close()
	p := b.program
	b.joinCgroups(groups)
	var said [2]*os.File
	if own {
		r, w, err := os.Pipe()
		if err != nil {
			channel.Close()
			return fmt.Errorf("cannot run %s: %w", c.runtime.name(), err)
		}
		defer r.Close()
		defer w.Close()
		said = [2]*os.File{r, w}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		channel.Close()
		return fmt.Errorf("cannot run %s: %w", c.runtime.name(), err)
	}
	defer null.Close()
	for i, f := range stdio {
		if f == nil {
			if f = null; i > 0 && said[1] != nil {
				f = said[1]
			}
		}
		p.Call("pass a descriptor", unix.SYS_DUP3, fork.Int(f.Fd()), fork.Int(i), fork.Int(0))
	}
	p.Call("close descriptors", unix.SYS_CLOSE_RANGE, fork.Int(3), fork.Int(uint32(0xffffffff)), fork.Int(unix.CLOSE_RANGE_CLOEXEC))
	p.Call("run "+argv[0], unix.SYS_EXECVE, p.Str(argv[0]), p.Strings(argv), p.Strings(os.Environ()))
	child, err := fork.Start(p, channel, fork.Options{})
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", c.runtime.name(), err)
	}
	if said[1] != nil {
		if err := said[1].Close(); err != nil {
			return fmt.Errorf("cannot run %s: %w", c.runtime.name(), err)
		}
	}
	tool := &process{child: child, args: argv}
	if err := tool.awaitExec(); err != nil {
		tool.discard()
		return fmt.Errorf("cannot run %s: %w", c.runtime.name(), err)
	}
	code, err := tool.Wait()
	if err != nil || code == 0 {
		return err
	}
	var printed []byte
	if said[0] != nil {
		printed = make([]byte, 4096)
		n, _ := said[0].Read(printed) // nothing is an answer too
		printed = printed[:n]
	}
	return errors.New(c.complaint(printed, code))
}

// complaint is the runtime's reason for a failure: the last error that it has logged, or printed.
func (c *external) complaint(printed []byte, code int) string {
	logged, err := os.ReadFile(c.log())
	if err != nil {
		logged = nil
	}
	last := ""
	for line := range bytes.Lines(append(logged, printed...)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg != "" {
			if entry.Level != "warning" && entry.Level != "info" && entry.Level != "debug" {
				last = entry.Msg
			}
		} else if text := strings.TrimSpace(string(line)); text != "" && last == "" {
			last = text
		}
	}
	if last == "" {
		last = "exit status " + strconv.Itoa(code)
	}
	return last
}

// explain tells a payload that cannot be executed, which has exit codes of its own, from other failures. Runtimes say it in words only.
func (x External) explain(err error, payload string) error {
	text := strings.ToLower(err.Error())
	e := &ExecError{Path: payload, Step: "exec"}
	switch {
	case strings.Contains(text, "not found in $path"):
		e.Step, e.Errno = "find in $PATH", unix.ENOENT
	case strings.Contains(text, "exec") && strings.Contains(text, "no such file or directory"):
		e.Errno = unix.ENOENT
	case strings.Contains(text, "exec") && strings.Contains(text, "permission denied"):
		e.Errno = unix.EACCES
	case strings.Contains(text, "exec format error"):
		e.Errno = unix.ENOEXEC
	default:
		return fmt.Errorf("runtime %s: %w", x.name(), err)
	}
	return e
}

// Start implements Container.
func (c *external) Start() error {
	if err := c.call(c.command("start")); err != nil {
		return c.runtime.explain(err, "the command")
	}
	return nil
}

// Exec implements Container.
func (c *external) Exec(_ context.Context, e Exec) (Process, error) {
	data, err := json.Marshal(e.Process)
	if err != nil {
		return nil, fmt.Errorf("cannot execute in the container: %w", err)
	}
	f, err := os.CreateTemp(c.bundle, "process-*.json")
	if err != nil {
		return nil, fmt.Errorf("cannot execute in the container: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is in the container's own directory
	if _, err = f.Write(data); err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot execute in the container: %w", err)
	}
	own := &external{runtime: c.runtime, id: c.id, root: c.root, family: c.family}
	dir, err := os.MkdirTemp(c.bundle, "exec-")
	if err != nil {
		return nil, fmt.Errorf("cannot execute in the container: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // likewise
	own.bundle = dir        // its log, pid and console are its own
	p, err := own.spawn(e.Cgroup, e.Stdio, e.Process.Terminal, "exec", "--detach", "--process", f.Name())
	if err != nil {
		return nil, c.runtime.explain(err, e.Process.Args[0])
	}
	return p, nil
}

// Root implements Container.
func (c *external) Root() (*os.File, error) { return rootOf(c.Pid()) }

// Delete implements Container.
func (c *external) Delete() error {
	var errs []error
	if _, err := os.Stat(filepath.Join(c.root, c.id)); err == nil { // create came so far, and it is not done yet
		if err := c.call(c.command("delete", "--force")); err != nil {
			errs = append(errs, fmt.Errorf("runtime %s: cannot delete: %w", c.runtime.name(), err))
		}
	}
	if c.rootfs != "" {
		// The next life has a mount of its own, and the directory could not be removed.
		if err := unix.Unmount(c.rootfs, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("runtime %s: cannot unmount the container's root: %w", c.runtime.name(), err))
		}
		c.rootfs = ""
	}
	return errors.Join(errs...)
}
