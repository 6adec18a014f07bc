package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/hook"
	"github.com/skiff-containers/skiff/run/oci"
)

// Start lets a created container run its program. Stdio are the streams of startContainer hooks.
func (c *Container) Start(stdio [3]*os.File) error {
	lock, err := lockDir(c.Dir)
	if err != nil {
		return err
	}
	err = c.start(stdio)
	return errors.Join(err, lock.Unlock())
}

func (c *Container) start(stdio [3]*os.File) error {
	if status := c.Status(); status != specs.StateCreated {
		return fmt.Errorf("cannot start container %q: it is %s", c.ID, status)
	}
	if c.Spec.Process == nil {
		return &FieldError{"process", "there must be one to start a container"}
	}
	if h := c.Spec.Hooks; h != nil && len(h.StartContainer) > 0 {
		if err := c.startHooks(stdio); err != nil {
			return errors.Join(err, c.kill(unix.SIGKILL))
		}
	}
	short, done, err := through(filepath.Join(c.Dir, fileStart))
	if err != nil {
		return err
	}
	defer done()
	if err := oci.Launch(short, c.Steps, c.Spec.Process.Args); err != nil {
		return err
	}
	if h := c.Spec.Hooks; h != nil {
		if err := hook.Run("poststart", h.Poststart, c.stateAs(specs.StateRunning)); err != nil {
			return errors.Join(err, c.kill(unix.SIGKILL))
		}
	}
	return nil
}

func (c *Container) startHooks(stdio [3]*os.File) error {
	in, err := c.enter(stdio, 0)
	if err != nil {
		return err
	}
	config, err := os.Open(filepath.Join(c.Dir, fileConfig))
	if err != nil {
		return errors.Join(err, in.close())
	}
	defer config.Close()
	req := request{Op: opHooks, ID: c.ID, Pid: c.Pid, State: c.stateAs(specs.StateCreated)}
	return in.converse(req, []*os.File{config}, func(reply, *os.File) error { return nil })
}

// Kill sends a signal to the container's first process, with all to every process in it.
func (c *Container) Kill(sig unix.Signal, all bool) error {
	status := c.Status()
	if status != specs.StateCreated && status != specs.StateRunning {
		if all {
			return nil // nobody is left to get it
		}
		return fmt.Errorf("cannot kill container %q: it is %s", c.ID, status)
	}
	if !all || sig == unix.SIGKILL && c.ownPids() {
		return c.kill(sig) // the kernel ends the namespace with it
	}
	if !c.ownPids() {
		return fmt.Errorf("cannot kill all processes of container %q: it has no pid namespace of its own (linux.namespaces)", c.ID)
	}
	return c.killAll(sig)
}

// ownPids says whether the container was given a new pid namespace.
func (c *Container) ownPids() bool {
	for _, n := range c.Spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace && n.Path == "" {
			return true
		}
	}
	return false
}

// kill sends a signal to the first process, and after SIGKILL waits for its end. One that has ended is no error.
func (c *Container) kill(sig unix.Signal) error {
	pidfd, err := c.open()
	if err != nil || pidfd == nil {
		return err
	}
	defer pidfd.Close()
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("cannot kill container %q: %w", c.ID, err)
	}
	return nil
}

// await waits until the first process has ended; time is how long it may take.
func (c *Container) await(within time.Duration) error {
	pidfd, err := c.open()
	if err != nil || pidfd == nil {
		return err
	}
	defer pidfd.Close()
	poll := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for end := time.Now().Add(within); ; {
		n, err := unix.Poll(poll, int(time.Until(end).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("it does not end")
		}
		if err != nil {
			return fmt.Errorf("cannot wait for container %q: %w", c.ID, err)
		}
		return nil
	}
}

// killAll sends a signal to all that are in the container's pid namespace.
func (c *Container) killAll(sig unix.Signal) error {
	ours, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.Pid))
	if err != nil {
		return fmt.Errorf("cannot find the processes of container %q: %w", c.ID, err)
	}
	for _, pid := range Pids(ours) {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill process %d of container %q: %w", pid, c.ID, err)
		}
	}
	return nil
}

// Pids lists the processes whose pid namespace is this one ("pid:[4026531836]").
func Pids(namespace string) (list []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && ns == namespace {
			list = append(list, pid)
		}
	}
	return list
}

// Processes lists the pids of the container's processes, as we see them.
func (c *Container) Processes() ([]int, error) {
	if !c.ownPids() {
		return nil, fmt.Errorf("cannot list the processes of container %q: it has no pid namespace of its own (linux.namespaces)", c.ID)
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.Pid))
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of container %q: it is %s", c.ID, c.Status())
	}
	return Pids(ns), nil
}

// endGrace is how long a killed process may take to end.
const endGrace = 10 * time.Second

// Delete frees what a stopped container holds; force ends one that runs. A failing poststop hook is returned as a warning: the container is gone.
func Delete(root, id string, force bool) (warning, err error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	dir := filepath.Join(root, id)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if force {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot delete %q: %w", id, ErrNotFound)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	warning, err = deleteLocked(root, id, force)
	return warning, errors.Join(err, lock.Unlock())
}

func deleteLocked(root, id string, force bool) (warning, err error) {
	c, err := Load(root, id)
	if errors.Is(err, ErrNotFound) {
		return nil, os.RemoveAll(filepath.Join(root, id)) // its creation was cut off
	}
	if err != nil {
		return nil, err
	}
	if status := c.Status(); status != specs.StateStopped {
		if !force && status != specs.StateCreated {
			return nil, fmt.Errorf("cannot delete container %q: it is %s", id, status)
		}
		if !force {
			return nil, fmt.Errorf("cannot delete container %q: it is %s; start it and let it end, or use --force", id, status)
		}
		if err := errors.Join(c.kill(unix.SIGKILL), c.await(endGrace)); err != nil {
			return nil, err
		}
	}
	if err := deleteGroups(c.Groups); err != nil {
		return nil, err
	}
	// The record goes before the rest: what is left of a cut off delete counts as never made.
	if err := os.Remove(filepath.Join(c.Dir, fileState)); err != nil {
		return nil, fmt.Errorf("cannot delete container %q: %w", id, err)
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return nil, fmt.Errorf("cannot delete container %q: %w", id, err)
	}
	if c.Spec.Hooks != nil {
		warning = hook.Poststop(c.Spec.Hooks.Poststop, c.stateAs(specs.StateStopped))
	}
	return warning, nil
}
