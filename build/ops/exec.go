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
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/seccomp"
	"github.com/skiff-containers/skiff/run/spec"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
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
	defer func() { err = errors.Join(err, mounts.close()) }()
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
	case len(o.op.CdiDevices) > 0:
		return fmt.Errorf("cannot give device %s: this version has no CDI devices", o.op.CdiDevices[0].Name)
	}
	return runnable(o.platform)
}

// network is the command's: host, none or the name of a network.
func (o *execOp) network() string {
	switch o.op.Network {
	case pb.NetMode_HOST:
		return "host"
	case pb.NetMode_NONE:
		return "none"
	}
	return o.env.Network
}

// config is what the runtime is asked for.
func (o *execOp) config(m *mounts) config.Config {
	c := config.Config{
		Version: config.Version, Network: o.network(), Hostname: o.op.Meta.Hostname, Workdir: o.op.Meta.Cwd,
		Mounts: m.binds, ShmSize: m.shm, Privileged: o.op.Security == pb.SecurityMode_INSECURE,
	}
	if c.Hostname == "" {
		c.Hostname = "buildkitsandbox"
	}
	for _, u := range o.op.Meta.Ulimit {
		c.Ulimits = append(c.Ulimits, config.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return c
}

// run runs the command and returns its exit code.
func (o *execOp) run(ctx context.Context, m *mounts) (int, error) {
	c := o.config(m)
	root := m.root.Root()
	user, err := spec.LookupUser(root, o.op.Meta.User, nil)
	if err != nil {
		return 0, err
	}
	in := spec.Input{
		ID: "build", Config: c, Image: &image.Image{}, Args: o.op.Meta.Args, User: user, Mapped: mapped(), CgroupV2: false,
		Volumes: map[string]string{},
	}
	net, err := o.cord(c, m.root.Bundle())
	if err != nil {
		return 0, err
	}
	defer net.close() //nolint:errcheck // what it holds is freed with its lock
	if in.ResolvConf, in.Hosts, err = o.hostFiles(m.root, c.Network, net); err != nil {
		return 0, err
	}
	s, err := spec.Build(in)
	if err != nil {
		return 0, err
	}
	s.Process.Env = o.environment(m, user)
	var filter []unix.SockFilter
	if !c.Privileged {
		if filter, err = seccomp.Default(s.Process.Capabilities.Bounding); err != nil {
			return 0, err
		}
	}
	group, err := cgroup.Create("build-"+identity.NewID(), o.env.CgroupParent, o.env.Limits)
	if err != nil {
		return 0, err
	}
	defer group.Delete() //nolint:errcheck // an empty group that stays is the next user's; the command's result is what counts
	out, err := newOutput(ctx)
	if err != nil {
		return 0, err
	}
	bundle := oci.Bundle{
		ID: "build", Dir: m.root.Bundle(), Spec: s, Rootfs: root, Detached: false, Filter: filter,
		Stdio: [3]*os.File{nil, out.stdout, out.stderr},
	}
	if net != nil {
		bundle.Meanwhile = net.plug
	}
	if group != nil {
		bundle.Cgroup, bundle.CgroupFD = group.Dirs, group.FD
	}
	code, err := o.execute(ctx, bundle)
	out.close()
	if err == nil && code == 128+int(unix.SIGKILL) && group.OOMKilled() {
		return 0, fmt.Errorf("process %q was ended by the kernel: it needed more memory than --memory allows", words(o.op.Meta.Args))
	}
	return code, err
}

// execute makes the container and waits for its end. The thread is kept: the container's first process dies with the thread that made it.
func (o *execOp) execute(ctx context.Context, bundle oci.Bundle) (int, error) {
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
	code, err := container.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, errors.Join(err, container.Delete())
}

// environment is the command's: what the Dockerfile says, secrets, HOME when nobody set it.
func (o *execOp) environment(m *mounts, user spec.User) []string {
	env := slices.Clone(o.op.Meta.Env)
	if p := o.op.Meta.ProxyEnv; p != nil {
		for _, v := range [][2]string{
			{"HTTP_PROXY", p.HttpProxy}, {"HTTPS_PROXY", p.HttpsProxy}, {"FTP_PROXY", p.FtpProxy}, {"NO_PROXY", p.NoProxy}, {"ALL_PROXY", p.AllProxy},
		} {
			if v[1] != "" {
				env = setEnv(setEnv(env, v[0], v[1]), strings.ToLower(v[0]), v[1])
			}
		}
	}
	env = append(env, m.env...)
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	if !has("PATH") {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if !has("HOME") {
		home := user.Home
		if home == "" {
			home = "/"
		}
		env = append(env, "HOME="+home)
	}
	return env
}

// hostFiles writes resolv.conf and hosts beside the step; they are bound over the tree's and are no part of it.
func (o *execOp) hostFiles(d *snap.Draft, network string, net *cord) (resolv, hosts string, err error) {
	text := "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if network == "host" {
		if data, err := os.ReadFile("/etc/hosts"); err == nil {
			text = string(data)
		}
	}
	for _, h := range o.op.Meta.ExtraHosts {
		if h.IP == netns.HostGateway && network == "host" {
			h.IP = "127.0.0.1"
		}
		text += h.IP + "\t" + h.Host + "\n"
	}
	hosts, resolv = d.Bundle()+"/hosts", d.Bundle()+"/resolv.conf"
	if err := disk.WriteFile(hosts, []byte(text), 0o644, disk.Volatile); err != nil {
		return "", "", err
	}
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		data = nil // a machine without name servers
	}
	if net != nil {
		data = config.ResolvConf(data, []string{net.resolver()}, nil, nil)
	}
	return resolv, hosts, disk.WriteFile(resolv, data, 0o644, disk.Volatile)
}

// mapped is how many ids the user namespace maps from 0 up.
func mapped() uint32 {
	data, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return 1
	}
	next := uint32(0)
	for line := range strings.Lines(string(data)) {
		var inside, outside, count uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && inside == next {
			next += count
		}
	}
	return next
}
