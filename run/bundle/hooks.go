package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/stage"
)

// runtimeHooks runs the hooks that go between the making of the namespaces and the change of the root, in our own.
func (c *Container) runtimeHooks() error {
	h := c.Spec.Hooks
	state := c.stateAs(specs.StateCreated)                       // what it is after the environment has been created (runtime-spec, runtime.md, "Lifecycle")
	if err := hooks("prestart", h.Prestart, state); err != nil { //nolint:staticcheck // prestart is deprecated and still used
		return err
	}
	return hooks("createRuntime", h.CreateRuntime, state)
}

// hooks runs hooks in the runtime's namespaces, one after the other, with the container's state on standard input. After the first that fails no other is run.
func hooks(kind string, list []specs.Hook, state specs.State) error {
	for i, h := range list {
		if err := hook(kind, i, h, state); err != nil {
			return err
		}
	}
	return nil
}

// poststop runs all poststop hooks, whichever fail.
func poststop(list []specs.Hook, state specs.State) error {
	var errs []error
	for i, h := range list {
		errs = append(errs, hook("poststop", i, h, state))
	}
	return errors.Join(errs...)
}

// hook runs the i-th hook of a kind.
func hook(kind string, i int, h specs.Hook, state specs.State) error {
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if h.Timeout != nil {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
	}
	cmd := exec.CommandContext(ctx, h.Path)
	if cmd.Args = h.Args; len(h.Args) == 0 {
		cmd.Args = []string{h.Path}
	}
	cmd.Env = h.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &said, &said
	cmd.WaitDelay = time.Second // what it has left in the background may keep its output
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it took longer than its %d seconds", *h.Timeout)
	}
	cancel()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return hookFailed(kind, i, h, err, said.String())
	}
	return nil
}

func hookFailed(kind string, i int, h specs.Hook, err error, said string) error {
	if said = strings.TrimSpace(said); said != "" {
		said = ": " + said
	}
	return fmt.Errorf("hook hooks.%s[%d] (%s) failed: %w%s", kind, i, h.Path, err, said)
}

// hooksIn is hooks in the namespaces of the container's first process; we are inside. Paths are resolved in its mount namespace, whose root is the container's as soon as that has become it.
func hooksIn(pid int, kind string, list []specs.Hook, state specs.State) error {
	if len(list) == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot run hooks in the container: %w", err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	input, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for i, h := range list {
		if err := hookIn(oci.Running(pid, pidfd), h, input); err != nil {
			return hookFailed(kind, i, h, err, "")
		}
	}
	return nil
}

// hookIn runs one hook in a container. Its output is ours.
func hookIn(c oci.Container, h specs.Hook, input []byte) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	all := oci.AllCapabilities()
	p := &specs.Process{
		Args: args, Env: h.Env, Cwd: "/",
		Capabilities: &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all},
	}
	process, err := c.Exec(context.Background(), oci.Exec{Process: p, Path: h.Path, Stdio: [3]*os.File{r, os.Stdout, os.Stderr}})
	if err != nil {
		return errors.Join(err, w.Close())
	}
	if h.Timeout != nil {
		late := time.AfterFunc(time.Duration(*h.Timeout)*time.Second, func() {
			_ = process.Signal(unix.SIGKILL) // it may have ended
		})
		defer late.Stop()
	}
	_, writeErr := w.Write(input)
	if errors.Is(writeErr, unix.EPIPE) {
		writeErr = nil // it does not read it
	}
	if err := errors.Join(writeErr, w.Close()); err != nil {
		return err
	}
	code, err := process.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d", code)
	}
	return err
}

// insideHooks runs the startContainer hooks.
func insideHooks(conn *stage.Conn, req request, files []*os.File) error {
	spec := &specs.Spec{}
	if len(files) != 1 {
		return errors.New("a configuration is needed")
	}
	if err := decode(files[0], spec); err != nil {
		return err
	}
	if err := hooksIn(req.Pid, "startContainer", spec.Hooks.StartContainer, req.State); err != nil {
		return err
	}
	return talk(conn, reply{Kind: replyReady})
}
