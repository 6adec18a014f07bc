package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/hook"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/seccomp"
	"github.com/skiff-containers/skiff/run/stage"
)

// Main is the life of a process whose argv[0] is Stage: args is the number of the descriptor that its conversation goes over.
func Main(args []string) int {
	runtime.LockOSThread()
	unix.Umask(0o022)
	if len(args) != 1 {
		_, _ = os.Stderr.WriteString(Stage + " is started by skiff-oci itself\n")
		return 1
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return 1
	}
	conn, err := stage.NewConn(fd)
	if err != nil {
		return 1
	}
	var req request
	files, err := conn.Receive(&req)
	if err != nil {
		return 1
	}
	switch req.Op {
	case opCreate:
		err = insideCreate(conn, req, files)
	case opExec:
		err = insideExec(conn, req, files)
	case opHooks:
		err = insideHooks(conn, req, files)
	}
	if err != nil {
		_ = conn.Send(failed(err)) // outside may have gone
		return 1
	}
	return 0
}

// decode reads JSON from a descriptor that was handed over.
func decode(f *os.File, into any) error {
	data, err := io.ReadAll(f)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	return nil
}

// stdio are our own standard streams, which are the container's.
func stdio() [3]*os.File { return [3]*os.File{os.Stdin, os.Stdout, os.Stderr} }

// talk says something and waits for the word to go on.
func talk(conn *stage.Conn, r reply, files ...*os.File) error {
	if err := conn.Send(r, files...); err != nil {
		return err
	}
	var word goOn
	if _, err := conn.Receive(&word); err != nil {
		return fmt.Errorf("cannot go on: %w", err)
	}
	return nil
}

func insideCreate(conn *stage.Conn, req request, files []*os.File) error {
	spec := &specs.Spec{}
	if len(files) != 2 {
		return errors.New("a configuration and a listener are needed")
	}
	if err := decode(files[0], spec); err != nil {
		return err
	}
	held := &oci.Held{Listener: files[1]}
	if spec.Process == nil {
		// It is required when the container is started only (runtime-spec, config.md), and then it is missed.
		spec.Process, held.NoProgram = &specs.Process{Cwd: "/", Args: []string{"/"}}, true
	}
	if err := adapt(spec); err != nil {
		return err
	}
	warnings := append(oci.Grant(spec.Process.Capabilities), ignored(spec)...)
	filter, err := compile(spec)
	if err != nil {
		return err
	}
	rootfs, err := os.OpenFile(req.Rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("cannot open the root file system: %w", err)
	}
	defer rootfs.Close()
	if err := os.Chdir(req.Bundle); err != nil { // relative sources of binds are the bundle's
		return fmt.Errorf("cannot change to the bundle: %w", err)
	}
	if err := copyUp(spec, rootfs); err != nil {
		return err
	}
	held.Ready = func(pid int, console *os.File, steps []string) error {
		r := reply{Kind: replyReady, Pid: pid, Steps: steps, Warn: warnings}
		if console != nil {
			return talk(conn, r, console)
		}
		return talk(conn, r)
	}
	var hooks func(int) error
	if h := spec.Hooks; h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 { //nolint:staticcheck // prestart is deprecated and still used
		hooks = func(pid int) error {
			if err := talk(conn, reply{Kind: replyHooks, Pid: pid}); err != nil {
				return err
			}
			state := specs.State{Version: specs.Version, ID: req.ID, Status: specs.StateCreated, Pid: pid, Bundle: req.Bundle, Annotations: spec.Annotations}
			return hook.Inside(pid, "createContainer", h.CreateContainer, state)
		}
	}
	b := oci.Bundle{
		ID: req.ID, Dir: req.Bundle, Place: req.Rootfs, Spec: spec, Rootfs: rootfs, Filter: filter, Cgroup: req.Groups, Keep: req.Keep, Held: held, Hooks: hooks,
	}
	if !spec.Process.Terminal {
		b.Stdio = stdio()
	}
	_, err = oci.New().Create(context.Background(), b)
	return err
}

// adapt turns a bundle's spec into one for package oci: what goes without saying for a runtime is written down, and what was done outside is taken out.
func adapt(s *specs.Spec) error {
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	mounts, err := adaptMounts(s)
	if err != nil {
		return err
	}
	s.Mounts = mounts
	return checkInside(s.Process, "process")
}

// checkInside refuses what this user namespace cannot give a process.
func checkInside(p *specs.Process, at string) error {
	if len(p.User.AdditionalGids) > 0 && oci.SetgroupsDenied() {
		return &FieldError{at + ".user.additionalGids", "the user namespace maps a single group"}
	}
	return nil
}

// ignored are warnings of mount options that mean nothing.
func ignored(s *specs.Spec) (warnings []string) {
	for i, m := range s.Mounts {
		for _, o := range oci.Ignored(m) {
			warnings = append(warnings, fmt.Sprintf("%s has no meaning for a bind mount (mounts[%d] at %s)", o, i, m.Destination))
		}
	}
	return warnings
}

// compile makes the seccomp program of a spec.
func compile(s *specs.Spec) ([]unix.SockFilter, error) {
	if s.Linux.Seccomp == nil {
		return nil, nil
	}
	text, err := json.Marshal(s.Linux.Seccomp)
	if err != nil {
		return nil, err
	}
	var caps []string
	if c := s.Process.Capabilities; c != nil {
		caps = c.Bounding
	}
	filter, err := seccomp.Compile(text, caps)
	if err != nil {
		return nil, &FieldError{"linux.seccomp", err.Error()}
	}
	return filter, nil
}
