package ops

// This file is the sandbox of a command: what the runtime is asked for, the command's environment, its files of the host.

import (
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/hook"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/seccomp"
	"github.com/skiff-containers/skiff/run/spec"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
)

// sandbox is what one process of a step runs in. The step's mounts are there before it and stay after it.
type sandbox struct {
	bundle oci.Bundle
	net    *cord
	group  *cgroup.Group
}

// sandbox makes one for args in the step's root, with the step's user, environment, mounts, network and limits.
func (o *execOp) sandbox(m *mounts, args []string, tty bool) (_ *sandbox, err error) {
	c := o.config(m)
	c.Tty = tty
	root := m.root.Root()
	user, err := spec.LookupUser(root, o.op.Meta.User, nil)
	if err != nil {
		return nil, err
	}
	in := spec.Input{
		ID: "build", Config: c, Image: &image.Image{}, Args: args, User: user, Mapped: userns.Mapped(), CgroupV2: false,
		Volumes: map[string]string{}, Edits: m.devices,
	}
	box := &sandbox{}
	defer func() {
		if err != nil {
			box.close()
		}
	}()
	if box.net, err = o.cord(c, m.root.Bundle()); err != nil {
		return nil, err
	}
	if in.ResolvConf, in.Hosts, err = o.hostFiles(m.root, c.Network, box.net); err != nil {
		return nil, err
	}
	s, err := spec.Build(in)
	if err != nil {
		return nil, err
	}
	s.Process.Env = o.environment(m, user, in.Edits.Env)
	box.bundle = oci.Bundle{ID: "build", Dir: m.root.Bundle(), Spec: s, Rootfs: root, Detached: false}
	if box.bundle.Hooks, err = hook.Before(s, "build", m.root.Bundle()); err != nil {
		return nil, err
	}
	if !c.Privileged {
		if box.bundle.Filter, err = seccomp.Default(s.Process.Capabilities.Bounding); err != nil {
			return nil, err
		}
	}
	if box.group, err = cgroup.Create("build-"+identity.NewID(), o.env.CgroupParent, o.env.Limits, o.env.Images.NoteGroup); err != nil {
		return nil, err
	}
	if box.net != nil {
		box.bundle.Meanwhile = box.net.plug
	}
	if box.group != nil {
		box.bundle.Cgroup, box.bundle.CgroupFD = box.group.Dirs, box.group.FD
	}
	return box, nil
}

// close frees what the sandbox holds.
func (b *sandbox) close() {
	_ = b.net.close()    // what it holds is freed with its lock
	_ = b.group.Delete() // an empty group that stays is the next user's; the command's result is what counts
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
		Mounts: m.binds, ShmSize: m.shm, Devices: o.env.Devices, Privileged: o.op.Security == pb.SecurityMode_INSECURE,
	}
	if c.Hostname == "" {
		c.Hostname = "buildkitsandbox"
	}
	for _, u := range o.op.Meta.Ulimit {
		c.Ulimits = append(c.Ulimits, config.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return c
}

// environment is the command's: what the Dockerfile says, what devices need, secrets, HOME when nobody set it.
func (o *execOp) environment(m *mounts, user spec.User, devices []string) []string {
	env := slices.Clone(o.op.Meta.Env)
	for _, e := range devices {
		name, value, _ := strings.Cut(e, "=")
		env = setEnv(env, name, value)
	}
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
		data = config.Resolver{Servers: []string{net.resolver()}}.ResolvConf(data)
	}
	return resolv, hosts, disk.WriteFile(resolv, data, 0o644, disk.Volatile)
}
