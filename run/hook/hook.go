// Package hook runs the hooks of OCI runtime specs (runtime-spec, config.md, "POSIX-platform Hooks"), in this process's namespaces or in those of a container. It decides nothing about
// when they run: that is for whoever makes the container. It runs where a container is made: in a monitor, in the engine during a build, in the OCI command line.
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Before makes of a spec's prestart, createRuntime and createContainer hooks what a runtime calls between the making of the namespaces and the change of the root; nil when it has none.
// The bundle gets the spec, since hooks read it there.
func Before(s *specs.Spec, id, bundle string) (func(pid int) error, error) {
	h := s.Hooks
	if h == nil || len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) == 0 { //nolint:staticcheck // prestart is deprecated and still used
		return nil, nil
	}
	data, err := json.Marshal(s)
	if err == nil {
		err = disk.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600, disk.Volatile)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the bundle for hooks: %w", err)
	}
	return func(pid int) error {
		state := specs.State{Version: specs.Version, ID: id, Status: specs.StateCreated, Pid: pid, Bundle: bundle, Annotations: s.Annotations}
		if err := Run("prestart", h.Prestart, state); err != nil { //nolint:staticcheck // prestart is deprecated and still used
			return err
		}
		if err := Run("createRuntime", h.CreateRuntime, state); err != nil {
			return err
		}
		return Inside(pid, "createContainer", h.CreateContainer, state)
	}, nil
}

// Run runs hooks in the runtime's namespaces, one after the other, with the container's state on standard input. After the first that fails no other is run.
func Run(kind string, list []specs.Hook, state specs.State) error {
	for i, h := range list {
		if err := one(kind, i, h, state); err != nil {
			return err
		}
	}
	return nil
}

// Poststop runs all poststop hooks, whichever fail.
func Poststop(list []specs.Hook, state specs.State) error {
	var errs []error
	for i, h := range list {
		errs = append(errs, one("poststop", i, h, state))
	}
	return errors.Join(errs...)
}

// one runs the i-th hook of a kind.
func one(kind string, i int, h specs.Hook, state specs.State) error {
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
		return failed(kind, i, h, err, said.String())
	}
	return nil
}

func failed(kind string, i int, h specs.Hook, err error, said string) error {
	if said = strings.TrimSpace(said); said != "" {
		said = ": " + said
	}
	return fmt.Errorf("hook hooks.%s[%d] (%s) failed: %w%s", kind, i, h.Path, err, said)
}

// Inside is Run in the namespaces of the container's first process; we are inside. Paths are resolved in its mount namespace, whose root is the container's as soon as that has become it.
func Inside(pid int, kind string, list []specs.Hook, state specs.State) error {
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
		if err := inside(oci.Running(pid, pidfd), h, input); err != nil {
			return failed(kind, i, h, err, "")
		}
	}
	return nil
}

// inside runs one hook in a container. Its output is ours.
func inside(c oci.Container, h specs.Hook, input []byte) error {
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
