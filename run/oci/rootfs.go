package oci

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// attachRoot adds the steps that put the root file system somewhere in our mount namespace, so that it can become the root. A
// directory is first copied as a detached mount, here, since only a mount of one's own namespace can be copied.
func (b *builder) attachRoot(root *os.File, detached bool, place string, propagation uint64) error {
	p := b.program
	b.image = root
	// What is mounted outside later is seen inside only when the spec asks for that.
	from := uint64(unix.MS_PRIVATE)
	if propagation == unix.MS_SLAVE || propagation == unix.MS_SHARED {
		from = unix.MS_SLAVE
	}
	if !detached {
		fd, err := unix.OpenTree(int(root.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("cannot copy the root file system's mount: %w", err)
		}
		root = os.NewFile(uintptr(fd), root.Name())
		b.files = append(b.files, root)
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: from}); err != nil {
			return fmt.Errorf("cannot set the propagation of the root file system's mount: %w", err)
		}
	}
	p.Call("keep mounts from propagating", unix.SYS_MOUNT, p.Str("none"), p.Str("/"), fork.Int(0), fork.Int(unix.MS_REC|from), fork.Int(0))
	p.Call("mount the root file system", unix.SYS_MOVE_MOUNT, fork.Int(root.Fd()), p.Str(""), fork.Cwd(), p.Str(place), fork.Int(unix.MOVE_MOUNT_F_EMPTY_PATH))
	p.Call("open the root file system", unix.SYS_OPENAT, fork.Cwd(), p.Str(place), fork.Int(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)).To(b.rootSlot)
	b.root = b.rootSlot.Value()
	return nil
}

// devLinks adds the links that every /dev has (OCI runtime spec, "Dev symbolic links" and "Default Devices").
func (b *builder) devLinks(dev fork.Slot) {
	p := b.program
	for _, l := range [][2]string{
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
		{"/proc/kcore", "core"},
		{"pts/ptmx", "ptmx"},
	} {
		p.Call("make the link /dev/"+l[1], unix.SYS_SYMLINKAT, p.Str(l[0]), dev.Value(), p.Str(l[1])).Allow(unix.EEXIST, unix.EROFS)
	}
}

// devices adds a bind of the host's node for each device: an unprivileged user cannot make nodes.
func (b *builder) devices(devices []specs.LinuxDevice) error {
	for _, d := range devices {
		m := specs.Mount{Destination: d.Path, Type: "bind", Source: d.Path, Options: []string{"bind", "nosuid", "noexec"}}
		if err := b.mount(m); err != nil {
			return err
		}
	}
	return nil
}

// console adds the steps that make a terminal in the container's own devpts, send its controlling side to the parent, and bind the
// other to /dev/console when there is one.
func (b *builder) console(channel fork.Arg, size *specs.Box, withConsole bool) {
	p := b.program
	const what = "make a terminal"
	if b.hasDevpts {
		p.Call(what, unix.SYS_OPENAT, b.devpts.Value(), p.Str("ptmx"), fork.Int(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).To(b.ptmx)
	} else {
		b.open(what, "dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, inRoot, b.ptmx)
	}
	unlock := new(int32)
	p.Call(what, unix.SYS_IOCTL, b.ptmx.Value(), fork.Int(unix.TIOCSPTLCK), fork.Pointer(p, unlock))
	if size != nil {
		ws := &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		p.Call(what, unix.SYS_IOCTL, b.ptmx.Value(), fork.Int(unix.TIOCSWINSZ), fork.Pointer(p, ws))
	}
	p.Call(what, unix.SYS_IOCTL, b.ptmx.Value(), fork.Int(unix.TIOCGPTPEER), fork.Int(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).To(b.tty)
	if withConsole {
		b.target("/dev/console", "a terminal", false, inRoot|unix.RESOLVE_NO_SYMLINKS, b.at)
		p.Call("bind the terminal at /dev/console", unix.SYS_OPEN_TREE, b.tty.Value(), p.Str(""), fork.Int(unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(b.scratch).
			Allow(unix.EINVAL).SkipOnError(2)
		b.attach("bind the terminal at /dev/console", b.scratch, b.at)
	}
	b.sendDescriptor(channel, b.ptmx)
}

// sendDescriptor adds the steps that send a slot's descriptor to the parent (SCM_RIGHTS) with a message of one byte.
func (b *builder) sendDescriptor(channel fork.Arg, fd fork.Slot) {
	p := b.program
	data := []byte{messageConsole}
	control := &struct {
		header unix.Cmsghdr
		fd     int32
		_      int32
	}{header: unix.Cmsghdr{Level: unix.SOL_SOCKET, Type: unix.SCM_RIGHTS}}
	control.header.SetLen(unix.CmsgLen(4))
	iov := &unix.Iovec{Base: &data[0]}
	iov.SetLen(1)
	msg := &unix.Msghdr{Iov: iov, Control: controlBytes(control)}
	msg.SetIovlen(1)
	msg.SetControllen(unix.CmsgSpace(4))
	p.Store(fd, &control.fd)
	p.Call("send the terminal", unix.SYS_SENDMSG, channel, fork.Pointer(p, msg), fork.Int(0))
}

// finishRoot adds everything that happens to the assembled root: read-only and masked paths, pivot, the root itself read-only.
func (b *builder) finishRoot(spec *specs.Spec) error {
	for _, name := range spec.Linux.ReadonlyPaths {
		b.readonly(name)
	}
	b.mask(spec.Linux.MaskedPaths)
	if spec.Root != nil && spec.Root.Readonly {
		b.setattr("make the root read-only", b.rootSlot, unix.AT_EMPTY_PATH, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	p := b.program
	// pivot_root(2), NOTES: with "." for both, the old root lies on top of the new one and is detached from there.
	p.Call("change to the root", unix.SYS_FCHDIR, b.root)
	p.Call("change the root", unix.SYS_PIVOT_ROOT, p.Str("."), p.Str("."))
	p.Call("detach the old root", unix.SYS_UMOUNT2, p.Str("."), fork.Int(unix.MNT_DETACH))
	p.Call("change to the root", unix.SYS_CHDIR, p.Str("/"))
	if prop := propagations[spec.Linux.RootfsPropagation]; prop != 0 && prop != unix.MS_PRIVATE {
		p.Call("set the root's propagation", unix.SYS_MOUNT, p.Str("none"), p.Str("/"), fork.Int(0), fork.Int(unix.MS_REC|prop), fork.Int(0))
	}
	return nil
}

// readonly adds a read-only copy of what is at name, over it. A missing path is passed over.
func (b *builder) readonly(name string) {
	rel := strings.TrimPrefix(path.Clean("/"+name), "/")
	what := "make " + name + " read-only"
	p := b.program
	first := b.open(what, rel, unix.O_PATH, inRoot, b.at).Allow(unix.ENOENT, unix.EACCES, unix.ENOTDIR)
	before := p.Len()
	p.Call(what, unix.SYS_OPEN_TREE, b.at.Value(), p.Str(""), fork.Int(unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(b.scratch)
	b.setattr(what, b.scratch, unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	b.attach(what, b.scratch, b.at)
	first.SkipOnError(p.Len() - before)
}

// mask adds the steps that hide paths: files under the container's /dev/null, directories under one empty read-only tmpfs. Missing ones are passed over.
// What is a directory below /proc and /sys is the same outside, so it is looked up now; elsewhere the kernel's refusal tells.
func (b *builder) mask(names []string) {
	if len(names) == 0 {
		return
	}
	p := b.program
	empty := attributes{set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, data: []string{"nr_blocks=1", "nr_inodes=1"}}
	// The null device of the host, opened before the root changes: an image cannot have put something else there.
	p.Call("open /dev/null", unix.SYS_OPENAT, fork.Cwd(), p.Str("/dev/null"), fork.Int(unix.O_PATH|unix.O_CLOEXEC)).To(b.null)
	clone := fork.Int(unix.AT_EMPTY_PATH | unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	haveEmpty := false
	for _, name := range names {
		what := "mask " + name
		clean := path.Clean("/" + name)
		st, statErr := os.Stat(clean)
		kernels := strings.HasPrefix(clean, "/proc/") || strings.HasPrefix(clean, "/sys/")
		if kernels && statErr != nil {
			continue
		}
		isDir, isFile := kernels && st.IsDir(), kernels && !st.IsDir()
		if !isFile && !haveEmpty {
			b.fileSystem(name, "tmpfs", "tmpfs", empty, b.empty)
			haveEmpty = true
		}
		first := b.open(what, strings.TrimPrefix(clean, "/"), unix.O_PATH, inRoot, b.at).Allow(unix.ENOENT, unix.EACCES, unix.ENOTDIR)
		before := p.Len()
		move := fork.Int(unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH)
		if !isDir {
			p.Call(what, unix.SYS_OPEN_TREE, b.null.Value(), p.Str(""), clone).To(b.scratch)
			s := p.Call(what, unix.SYS_MOVE_MOUNT, b.scratch.Value(), p.Str(""), b.at.Value(), p.Str(""), move)
			if !isFile {
				s.Allow(unix.ENOTDIR, unix.EINVAL).SkipOnSuccess(3)
			}
		}
		if !isFile {
			// Kernels before 6.15 copy no mount that is nowhere yet: the first place gets the mount itself.
			p.Call(what, unix.SYS_OPEN_TREE, b.empty.Value(), p.Str(""), clone).To(b.scratch).Allow(unix.EINVAL).SkipOnSuccess(1)
			p.Call(what, unix.SYS_MOVE_MOUNT, b.empty.Value(), p.Str(""), b.at.Value(), p.Str(""), move).SkipOnSuccess(1)
			p.Call(what, unix.SYS_MOVE_MOUNT, b.scratch.Value(), p.Str(""), b.at.Value(), p.Str(""), move)
		}
		p.Call("close a target", unix.SYS_CLOSE, b.at.Value())
		first.SkipOnError(p.Len() - before)
	}
}

// sysctls adds writes below /proc/sys, through a procfs of our own: a path in the container could lead elsewhere (CVE-2025-52881).
func (b *builder) sysctls(values map[string]string) {
	if len(values) == 0 {
		return
	}
	for key, value := range values {
		b.writeProc("set sysctl "+key, "sys/"+strings.ReplaceAll(key, ".", "/"), value)
	}
}

// writeProc adds a write to a file of the container's procfs.
func (b *builder) writeProc(what, name, value string) {
	p := b.program
	how := &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	p.Call(what, unix.SYS_OPENAT2, b.proc.Value(), p.Str(name), fork.Pointer(p, how), fork.Int(unix.SizeofOpenHow)).To(b.scratch)
	p.Call(what, unix.SYS_WRITE, b.scratch.Value(), p.Str(value), fork.Int(len(value)))
	p.Call(what, unix.SYS_CLOSE, b.scratch.Value())
}
