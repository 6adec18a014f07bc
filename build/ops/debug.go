package ops

// This file keeps a command that failed, so that people can look around where it ran.

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Failure is a RUN that failed, with its root as the command left it and all that was mounted there. Nothing of it is kept after Close.
type Failure struct {
	op     *execOp
	mounts *mounts
}

// keepFailure takes a failure over, if failures are kept and it is the first.
func (e *Env) keepFailure(f *Failure) bool {
	e.keeping.Lock()
	defer e.keeping.Unlock()
	if !e.KeepFailed || e.failed != nil || f.mounts.root == nil {
		return false
	}
	e.failed = f
	return true
}

// Failed is the first RUN that failed, nil when none did. The caller closes it, when the solver has ended.
func (e *Env) Failed() *Failure {
	e.keeping.Lock()
	defer e.keeping.Unlock()
	f := e.failed
	e.failed = nil
	return f
}

// Name is the step's, as the progress shows it.
func (f *Failure) Name() string { return f.op.name }

// Terminal is where a shell is shown.
type Terminal struct {
	Type       string // $TERM
	Rows, Cols uint16
	// Relay connects the controlling side of the shell's terminal with the user's, and returns when that ends.
	Relay func(console *os.File)
}

// Shell runs a shell where the command ran, as its user and with its environment, mounts and network, and waits for its end. The step's own shell is taken if it has one.
func (f *Failure) Shell(ctx context.Context, t Terminal) error {
	shell, err := f.shell()
	if err != nil {
		return err
	}
	box, err := f.op.sandbox(f.mounts, []string{shell}, true)
	if err != nil {
		return fmt.Errorf("cannot open a shell: %w", err)
	}
	defer box.close()
	p := box.bundle.Spec.Process
	p.ConsoleSize = &specs.Box{Height: uint(t.Rows), Width: uint(t.Cols)}
	if t.Type != "" && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(p.Env, "TERM="+t.Type)
	}
	// How the shell ends says nothing: people leave it after a command that failed, too.
	if _, err = f.op.execute(ctx, box.bundle, func(c oci.Container) { t.Relay(c.Console()) }); err != nil {
		return fmt.Errorf("cannot open a shell: %w", err)
	}
	return nil
}

// shell finds a shell in the step's root.
func (f *Failure) shell() (string, error) {
	list := []string{"/bin/sh", "/bin/bash", "/bin/ash", "/busybox/sh", "/usr/bin/sh"}
	known := []string{"sh", "ash", "bash", "dash", "zsh", "fish", "ksh", "mksh"}
	if args := f.op.op.Meta.Args; len(args) > 0 && path.IsAbs(args[0]) && slices.Contains(known, path.Base(args[0])) {
		list = append([]string{args[0]}, list...)
	}
	for _, name := range list {
		file, err := disk.OpenBeneath(f.mounts.root.Root(), name, unix.O_PATH, 0)
		if err == nil {
			_ = file.Close() // only looked at
			return name, nil
		}
	}
	return "", fmt.Errorf("cannot open a shell: there is none in the step's root (%s)", strings.Join(list, ", "))
}

// Close throws away what the command left. A nil Failure has nothing.
func (f *Failure) Close() error {
	if f == nil {
		return nil
	}
	return f.mounts.close()
}
