package ops

// This file is the exec operation: RUN. The command gets the same sandbox as `run`'s; the engine is its owner, so there is no monitor.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/run/oci"
)

type execOp struct {
	base
	op       *pb.ExecOp
	platform *pb.Platform
}

// CacheMap implements solver.Op: the command with all that it is given. Mounted trees that it cannot hand on count by their content.
func (o *execOp) CacheMap(context.Context, solver.JobContext, int) (*solver.CacheMap, bool, error) {
	op := o.op.CloneVT()
	picks := map[int][]files.Pick{}
	plain := map[int]bool{}
	for _, m := range op.Mounts {
		if m.Input >= 0 && m.MountType == pb.MountType_BIND {
			sel := "/" + strings.TrimPrefix(m.Selector, "/")
			if m.Dest == "/" || m.Output >= 0 && !m.Readonly && sel != "/" {
				plain[int(m.Input)] = true
			}
			picks[int(m.Input)] = append(picks[int(m.Input)], files.Pick{Path: sel, Follow: true})
		}
		if m.CacheOpt != nil { // what a cache mount is called changes no result
			m.CacheOpt = nil
		}
	}
	for i := range plain {
		delete(picks, i)
	}
	op.Meta.ProxyEnv = nil
	for _, h := range op.Meta.ExtraHosts {
		h.IP = ""
	}
	m, err := o.cacheMap("skiff.exec.v1", []any{op, o.platform}, picks)
	return m, true, err
}

// Exec implements solver.Op.
func (o *execOp) Exec(ctx context.Context, _ solver.JobContext, inputs []solver.Result) (results []solver.Result, err error) {
	if err := o.refuse(); err != nil {
		return nil, err
	}
	mounts := &mounts{op: o, inputs: inputs}
	ran := false
	defer func() {
		if err != nil && ran && ctx.Err() == nil && o.env.keepFailure(&Failure{op: o, mounts: mounts}) {
			return
		}
		err = errors.Join(err, mounts.close())
	}()
	if err := mounts.prepare(ctx); err != nil {
		return nil, err
	}
	if mounts.root == nil {
		return nil, fmt.Errorf("cannot run %s: it has no root file system", o.name)
	}
	stubs, err := findStubs(mounts.root.Root(), mounts.targets())
	if err != nil {
		return nil, err
	}
	ran = true
	code, err := o.run(ctx, mounts)
	if err != nil {
		return nil, err
	}
	valid := o.op.Meta.ValidExitCodes
	if len(valid) == 0 {
		valid = []int32{0}
	}
	if !slices.Contains(valid, int32(code)) {
		failed := &gateway.ExitError{ExitCode: uint32(code)}
		return nil, fmt.Errorf("process %q did not complete successfully: %w", words(o.op.Meta.Args), failed)
	}
	if err := stubs.remove(mounts.root.Root()); err != nil {
		return nil, err
	}
	return mounts.commit(o.name)
}

// refuse answers what this version cannot do, or may not.
func (o *execOp) refuse() error {
	switch {
	case o.op.Network == pb.NetMode_HOST && !o.env.HostNetwork:
		return fmt.Errorf("cannot run with --network=host: it is not allowed; give --allow network.host, or --network host for all steps")
	case o.op.Security == pb.SecurityMode_INSECURE && !o.env.Insecure:
		return fmt.Errorf("cannot run with --security=insecure: it is not allowed; give --allow security.insecure")
	}
	return runnable(o.platform)
}

// run runs the command and returns its exit code.
func (o *execOp) run(ctx context.Context, m *mounts) (int, error) {
	box, err := o.sandbox(m, o.op.Meta.Args, false)
	if err != nil {
		return 0, err
	}
	defer box.close()
	out, err := newOutput(ctx)
	if err != nil {
		return 0, err
	}
	box.bundle.Stdio = [3]*os.File{nil, out.stdout, out.stderr}
	code, err := o.execute(ctx, box.bundle, nil)
	out.close()
	if err == nil && code == 128+int(unix.SIGKILL) && box.group.OOMKills() > 0 {
		return 0, fmt.Errorf("process %q was ended by the kernel: it needed more memory than --memory allows", words(o.op.Meta.Args))
	}
	return code, err
}

// execute makes the container and waits for its end; meet, when not nil, is shown it when it runs. The thread is kept: the container's first process dies with
// the thread that made it.
func (o *execOp) execute(ctx context.Context, bundle oci.Bundle, meet func(oci.Container)) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	container, err := oci.New().Create(ctx, bundle)
	if err != nil {
		return 0, err
	}
	if err := container.Start(); err != nil {
		_ = container.Signal(unix.SIGKILL) // it has ended, or ends now
		_, _ = container.Wait()
		var failed *oci.ExecError
		if errors.As(err, &failed) {
			code := uint32(126)
			if failed.Errno == unix.ENOENT {
				code = 127
			}
			return 0, fmt.Errorf("process %q did not complete successfully: %w", words(o.op.Meta.Args), &gateway.ExitError{ExitCode: code, Err: err})
		}
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = container.Signal(unix.SIGKILL) }) // it may have ended
	defer stop()
	if meet != nil {
		meet(container)
	}
	code, err := container.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, errors.Join(err, container.Delete())
}
