package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/hook"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Options of Create.
type Options struct {
	Root, ID string
	// Bundle is the bundle's directory; "" is the working directory.
	Bundle string
	// PidFile, when not "", gets the first process's pid.
	PidFile string
	// ConsoleSocket is a socket that takes the terminal of a process with one.
	ConsoleSocket string
	// Console, when not nil, takes it instead.
	Console func(*os.File) error
	// Keep is how many descriptors from 3 up the container's process inherits.
	Keep  int
	Stdio [3]*os.File
}

// Create makes the container of a bundle and leaves its first process just before its program, which Start lets run. It runs in the process that the user started, and the first process becomes
// the child of its subreaper when it ends. On error nothing is left.
func Create(o Options) (*Container, error) {
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	spec, text, dir, err := readBundle(o.Bundle)
	if err != nil {
		return nil, err
	}
	if err := Check(spec); err != nil {
		return nil, err
	}
	if o.Console == nil {
		if err := checkConsole(spec.Process != nil && spec.Process.Terminal, o.ConsoleSocket); err != nil {
			return nil, err
		}
		if o.ConsoleSocket != "" {
			o.Console = SendConsole(o.ConsoleSocket)
		}
	}
	rootfs := spec.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(dir, rootfs)
	}
	if st, err := os.Stat(rootfs); err != nil || !st.IsDir() {
		return nil, &FieldError{"root.path", rootfs + " is no directory that can be reached"}
	}
	c := &Container{Dir: filepath.Join(o.Root, o.ID), Spec: spec}
	c.Saved = Saved{Version: savedVersion, ID: o.ID, Bundle: dir, Rootfs: rootfs, Created: time.Now().UTC()}
	lock, err := claim(o.Root, o.ID)
	if err != nil {
		return nil, err
	}
	if err = c.make(o, text); err != nil {
		err = errors.Join(err, c.unmake())
	}
	return c, errors.Join(err, lock.Unlock())
}

// readBundle reads a bundle's config.json; it returns the absolute path of the bundle too.
func readBundle(name string) (spec *specs.Spec, text []byte, dir string, err error) {
	if dir, err = filepath.Abs(name); err != nil {
		return nil, nil, "", fmt.Errorf("cannot find the bundle %s: %w", name, err)
	}
	path := filepath.Join(dir, fileConfig)
	if text, err = os.ReadFile(path); err != nil {
		return nil, nil, "", fmt.Errorf("cannot read the bundle: %w", err)
	}
	spec = &specs.Spec{}
	if err := json.Unmarshal(text, spec); err != nil {
		return nil, nil, "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	return spec, text, dir, nil
}

// WantsTerminal says whether the process of a bundle has a terminal.
func WantsTerminal(bundle string) (bool, error) {
	spec, _, _, err := readBundle(bundle)
	if err != nil {
		return false, err
	}
	return spec.Process != nil && spec.Process.Terminal, nil
}

func checkConsole(terminal bool, socket string) error {
	switch {
	case terminal && socket == "":
		return errors.New("the process has a terminal: --console-socket must say where to send it")
	case !terminal && socket != "":
		return errors.New("cannot use --console-socket: the process has no terminal (process.terminal)")
	}
	return nil
}

// claim makes and locks the directory of a container. What a killed create has left there is removed.
func claim(root, id string) (*disk.Lock, error) {
	dir := filepath.Join(root, id)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the root directory: %w", err)
	}
	for {
		err := os.Mkdir(dir, 0o700)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cannot make the container's directory: %w", err)
		}
		lock, err := disk.TryLock(filepath.Join(dir, fileLock), disk.Exclusive)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err == nil && !disk.Same(lock, filepath.Join(dir, fileLock)) {
			err = lock.Unlock() // likewise
			if err == nil {
				continue
			}
		}
		if err != nil && !errors.Is(err, disk.ErrLocked) {
			return nil, err
		}
		if err == nil {
			if _, err = os.Lstat(filepath.Join(dir, fileState)); errors.Is(err, os.ErrNotExist) {
				return lock, os.RemoveAll(filepath.Join(dir, fileStart))
			}
			if err := lock.Unlock(); err != nil {
				return nil, err
			}
		}
		return nil, fmt.Errorf("container %q exists", id)
	}
}

// make makes the container in its locked directory.
func (c *Container) make(o Options, config []byte) (err error) {
	if err := disk.WriteFile(filepath.Join(c.Dir, fileConfig), config, 0o600, false); err != nil {
		return fmt.Errorf("cannot keep the bundle's configuration: %w", err)
	}
	listener, err := listen(filepath.Join(c.Dir, fileStart))
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.Groups, err = makeGroups(c.ID, c.Spec); err != nil {
		return err
	}
	in, err := c.enter(o.Stdio, o.Keep)
	if err != nil {
		return err
	}
	kept, err := os.Open(filepath.Join(c.Dir, fileConfig))
	if err != nil {
		return errors.Join(err, in.close())
	}
	defer kept.Close()
	req := request{Op: opCreate, ID: c.ID, Bundle: c.Bundle, Rootfs: c.Rootfs, Groups: c.Groups, Keep: o.Keep}
	return in.converse(req, []*os.File{kept, listener}, func(r reply, console *os.File) error {
		c.Pid = r.Pid
		if r.Kind == replyHooks {
			return c.runtimeHooks()
		}
		c.Warnings = r.Warn
		return c.created(o, r.Steps, console)
	})
}

// created writes down that the container is created; its first process ends with us until that is done.
func (c *Container) created(o Options, steps []string, console *os.File) (err error) {
	if c.Birth, err = birthOf(c.Pid); err != nil {
		return fmt.Errorf("cannot find the container's first process: %w", err)
	}
	if o.Console != nil {
		if err := o.Console(console); err != nil {
			return err
		}
	}
	if err := writePid(o.PidFile, c.Pid); err != nil {
		return err
	}
	c.Steps = steps
	data, err := json.Marshal(c.Saved)
	if err == nil {
		err = disk.WriteFile(filepath.Join(c.Dir, fileState), data, 0o600, false)
	}
	if err != nil {
		return fmt.Errorf("cannot write the container's state: %w", err)
	}
	return nil
}

func writePid(path string, pid int) error {
	if path == "" {
		return nil
	}
	if err := disk.WriteFile(path, []byte(strconv.Itoa(pid)), 0o644, false); err != nil {
		return fmt.Errorf("cannot write the pid file: %w", err)
	}
	return nil
}

// unmake removes what make has made so far.
func (c *Container) unmake() error {
	if c.Pid > 0 && c.Birth > 0 {
		if err := c.kill(unix.SIGKILL); err != nil {
			return err
		}
	}
	err := errors.Join(deleteGroups(c.Groups), os.RemoveAll(c.Dir))
	if c.Pid > 0 && c.Spec.Hooks != nil {
		err = errors.Join(err, hook.Poststop(c.Spec.Hooks.Poststop, c.stateAs(specs.StateStopped)))
	}
	return err
}

// listen makes the socket that the container's start is asked for on. A socket's path has 108 bytes: it is named through its directory's descriptor.
func listen(path string) (*os.File, error) {
	short, done, err := through(path)
	if err != nil {
		return nil, err
	}
	defer done()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrUnix{Name: short}); err == nil {
			err = unix.Listen(fd, 1)
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the container's socket: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// through is a short name for a path: by a descriptor of its directory, until done is called.
func through(path string) (short string, done func(), err error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("cannot open %s: %w", filepath.Dir(path), err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)), func() { unix.Close(fd) }, nil
}

// Stage is argv[0] of the life inside the user namespace.
const Stage = stage.OCI
