package ops

// This file is what a command sees beside its root: --mount=type=bind, cache, tmpfs, secret and ssh.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
)

// mounts are one command's, from before it starts until it has ended.
type mounts struct {
	op      *execOp
	inputs  []solver.Result
	root    *snap.Draft
	outputs map[int64]*snap.Draft
	drafts  []*snap.Draft // thrown away
	binds   []config.Mount
	devices config.DeviceEdits
	env     []string
	shm     int64
	ends    []func() error
}

// targets are the paths that something is mounted at: the command's own mounts, and what every sandbox has.
func (m *mounts) targets() []string {
	list := []string{"/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hosts"}
	for _, b := range m.binds {
		list = append(list, b.Target)
	}
	for _, d := range slices.Concat(m.op.env.Devices, m.devices.Devices) {
		list = append(list, d.Container)
	}
	for _, d := range m.devices.Mounts {
		list = append(list, d.Container)
	}
	return list
}

// prepare makes them all.
func (m *mounts) prepare(ctx context.Context) (err error) {
	if m.devices, err = m.op.deviceEdits(); err != nil {
		return err
	}
	m.outputs = map[int64]*snap.Draft{}
	for _, mount := range m.op.op.Mounts {
		var err error
		switch mount.MountType {
		case pb.MountType_BIND:
			err = m.bind(ctx, mount)
		case pb.MountType_CACHE:
			err = m.cache(ctx, mount)
		case pb.MountType_TMPFS:
			m.tmpfs(mount)
		case pb.MountType_SECRET:
			err = m.secret(mount)
		case pb.MountType_SSH:
			err = m.ssh(mount)
		default:
			err = fmt.Errorf("cannot mount at %s: type %s is not known", mount.Dest, mount.MountType)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range m.op.op.Secretenv {
		value, err := m.value(s.ID, s.Optional)
		if err != nil {
			return err
		}
		if value != nil {
			m.env = append(m.env, s.Name+"="+string(value))
		}
	}
	return nil
}

// tree is an input as layers: a directory of the user's is copied first, since a command may not see what is ignored, nor change it.
func (m *mounts) tree(ctx context.Context, r *Ref) (snap.Tree, error) {
	if r.Local == nil {
		return r.Tree, nil
	}
	d, err := m.op.env.Snap.New(ctx, nil)
	if err != nil {
		return nil, err
	}
	src, err := m.op.env.Source(ctx, r)
	if err == nil {
		err = files.Copy(ctx, src, d.Root(), "/", files.CopyOptions{Pick: files.Pick{Path: "/"}, Contents: true})
	}
	if err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d.Commit("context of " + m.op.name)
}

// bind mounts an input, or a part of it. What a command writes there is thrown away, unless it is an output.
func (m *mounts) bind(ctx context.Context, mount *pb.Mount) error {
	in, err := ref(m.inputs, mount.Input)
	if err != nil {
		return err
	}
	tree, err := m.tree(ctx, in)
	if err != nil {
		return err
	}
	d, err := m.op.env.Snap.New(ctx, tree)
	if err != nil {
		return err
	}
	if mount.Output >= 0 {
		m.outputs[mount.Output] = d
	} else {
		m.drafts = append(m.drafts, d)
	}
	if mount.Dest == "/" {
		m.root = d
		_, err := d.Place() // a copy of it goes to the container
		return err
	}
	if _, err := d.Place(); err != nil {
		return err
	}
	return m.attach(d.Root(), mount.Selector, mount.Dest, mount.Readonly)
}

// attach binds what is at a path beneath root. It is opened here and stays open until the command ends: the name may be changed meanwhile.
func (m *mounts) attach(root *os.File, name, dest string, readonly bool) error {
	f, err := disk.OpenBeneath(root, name, unix.O_PATH, 0)
	if err != nil {
		return fmt.Errorf("cannot mount at %s: %w", dest, err)
	}
	m.ends = append(m.ends, f.Close)
	m.binds = append(m.binds, config.Mount{
		Type: config.MountBind, Source: "/proc/self/fd/" + strconv.Itoa(int(f.Fd())), Target: filepath.Join("/", dest), ReadOnly: readonly,
	})
	return nil
}

func (m *mounts) tmpfs(mount *pb.Mount) {
	t := config.Mount{Type: config.MountTmpfs, Target: filepath.Join("/", mount.Dest), ReadOnly: mount.Readonly}
	if mount.TmpfsOpt != nil {
		t.Size = mount.TmpfsOpt.Size
	}
	if t.Target == "/dev/shm" { // --shm-size
		m.shm = t.Size
		return
	}
	yes := true
	t.Exec = &yes
	m.binds = append(m.binds, t)
}

// value reads a secret; nil is one that is missing and may be.
func (m *mounts) value(id string, optional bool) ([]byte, error) {
	read := m.op.env.Secrets[id]
	if read == nil {
		if optional {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot find secret %s: give it with --secret id=%s,src=FILE or --secret id=%s,env=NAME", id, id, id)
	}
	data, err := read()
	if err != nil {
		return nil, fmt.Errorf("cannot read secret %s: %w", id, err)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// secret puts a secret into memory and binds it.
func (m *mounts) secret(mount *pb.Mount) error {
	o := mount.SecretOpt
	data, err := m.value(o.ID, o.Optional)
	if err != nil || data == nil {
		return err
	}
	dir, err := m.memory()
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	if err := files.WriteFile(dir, "secret", data, o.Mode&0o777, &files.Owner{UID: o.Uid, GID: o.Gid}, nil); err != nil {
		return fmt.Errorf("cannot write secret %s: %w", o.ID, err)
	}
	return m.attach(dir, "secret", mount.Dest, true)
}

// memory mounts a small file system in memory somewhere in our own mount namespace, and opens its root.
func (m *mounts) memory() (*os.File, error) {
	at, err := os.MkdirTemp(m.op.env.Images.Scratch(), "secret-")
	if err != nil {
		return nil, err
	}
	m.ends = append(m.ends, func() error { return os.Remove(at) })
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=2m,noswap"); err != nil {
		if err = unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=2m"); err != nil {
			return nil, fmt.Errorf("cannot mount memory for a secret: %w", err)
		}
	}
	m.ends = append(m.ends, func() error { return unix.Unmount(at, unix.MNT_DETACH) })
	return os.OpenFile(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// commit keeps the outputs.
func (m *mounts) commit(name string) ([]solver.Result, error) {
	results := make([]solver.Result, len(m.outputs))
	for i := range results {
		d := m.outputs[int64(i)]
		if d == nil {
			return nil, fmt.Errorf("cannot find output %d of %s", i, name)
		}
		delete(m.outputs, int64(i))
		tree, err := d.Commit(name)
		if err != nil {
			return nil, err
		}
		results[i] = Result(&Ref{Key: tree.ID(), Tree: tree})
	}
	return results, nil
}

// close ends everything that was not kept.
func (m *mounts) close() error {
	var errs []error
	for i := len(m.ends) - 1; i >= 0; i-- {
		errs = append(errs, m.ends[i]())
	}
	for _, d := range m.drafts {
		errs = append(errs, d.Discard())
	}
	for _, d := range m.outputs {
		errs = append(errs, d.Discard())
	}
	return errors.Join(errs...)
}
