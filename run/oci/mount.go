package oci

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// How paths inside the root are resolved: nothing leaves it, nothing jumps through /proc's magic links.
const (
	inRoot    = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	noSymlink = inRoot | unix.RESOLVE_NO_SYMLINKS
)

// attributes is what a mount's options ask of the mount itself (mount_setattr(2)); data are the file system's own options.
type attributes struct {
	set, clear  uint64
	recursive   bool // of a bind: rbind
	recursiveRO bool
	propagation uint64
	bind        bool
	words       []string // the options that were attributes
	data        []string
}

// flagOptions are mount(8)'s words for mount attributes.
var flagOptions = map[string]struct {
	set, clear uint64
}{
	"ro": {unix.MOUNT_ATTR_RDONLY, 0}, "rw": {0, unix.MOUNT_ATTR_RDONLY},
	"nosuid": {unix.MOUNT_ATTR_NOSUID, 0}, "suid": {0, unix.MOUNT_ATTR_NOSUID},
	"nodev": {unix.MOUNT_ATTR_NODEV, 0}, "dev": {0, unix.MOUNT_ATTR_NODEV},
	"noexec": {unix.MOUNT_ATTR_NOEXEC, 0}, "exec": {0, unix.MOUNT_ATTR_NOEXEC},
	"noatime": {unix.MOUNT_ATTR_NOATIME, 0}, "relatime": {0, 0}, "strictatime": {unix.MOUNT_ATTR_STRICTATIME, 0},
	"nodiratime": {unix.MOUNT_ATTR_NODIRATIME, 0}, "diratime": {0, unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, 0},
	"defaults":    {0, 0}, "async": {0, 0}, "loud": {0, 0}, "silent": {0, 0},
}

// propagations by option; the kernel takes one of these at a time.
var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE,
}

// parseOptions sorts a spec mount's options into attributes and file system data.
func parseOptions(options []string) attributes {
	var a attributes
	for _, o := range options {
		switch o {
		case "bind":
			a.bind = true
		case "rbind":
			a.bind, a.recursive = true, true
		case "rro":
			a.set |= unix.MOUNT_ATTR_RDONLY
			a.recursiveRO = true
		default:
			if f, ok := flagOptions[o]; ok {
				a.words = append(a.words, o)
				a.set = a.set&^f.clear | f.set
				a.clear = a.clear&^f.set | f.clear
			} else if p, ok := propagations[o]; ok {
				a.propagation = p
			} else {
				a.data = append(a.data, o)
			}
		}
	}
	return a
}

// mount adds the steps of one mount of the spec.
func (b *builder) mount(m specs.Mount) error {
	a := parseOptions(m.Options)
	if !path.IsAbs(m.Destination) {
		return fmt.Errorf("cannot mount at %q: the path must be absolute", m.Destination)
	}
	if m.Type == "bind" || m.Type == "none" || a.bind {
		return b.bind(m, a)
	}
	fs := b.made // the program has few slots, and a container any number of mounts
	switch m.Type {
	case "proc":
		fs = b.proc
	case "devpts":
		fs = b.devpts
		b.hasDevpts = true
	}
	b.fileSystem(m.Destination, m.Type, m.Source, a, fs)
	switch m.Type {
	case "proc":
		b.target(m.Destination, "proc", true, noSymlink, b.at)
	case "sysfs":
		b.target(m.Destination, "sysfs", true, noSymlink, b.at)
	default:
		b.target(m.Destination, m.Type, true, inRoot, b.at)
	}
	b.attach("mount "+m.Type+" at "+m.Destination, fs, b.at)
	if path.Clean(m.Destination) == "/dev" {
		b.devLinks(fs)
	}
	if fs == b.made {
		b.program.Call("close a mount", unix.SYS_CLOSE, fs.Value())
	}
	return nil
}

// fileSystem adds the steps that make a detached mount of a new file system.
func (b *builder) fileSystem(dest, kind, source string, a attributes, fs fork.Slot) {
	p := b.program
	what := "mount " + kind + " at " + dest
	p.Call(what, unix.SYS_FSOPEN, p.Str(kind), fork.Int(unix.FSOPEN_CLOEXEC)).To(b.context)
	if source != "" {
		p.Call(what, unix.SYS_FSCONFIG, b.context.Value(), fork.Int(unix.FSCONFIG_SET_STRING), p.Str("source"), p.Str(source), fork.Int(0))
	}
	for _, o := range a.data {
		key, value, isValue := strings.Cut(o, "=")
		if isValue {
			p.Call(what+" with option "+o, unix.SYS_FSCONFIG, b.context.Value(), fork.Int(unix.FSCONFIG_SET_STRING), p.Str(key), p.Str(value), fork.Int(0))
		} else {
			p.Call(what+" with option "+o, unix.SYS_FSCONFIG, b.context.Value(), fork.Int(unix.FSCONFIG_SET_FLAG), p.Str(key), fork.Int(0), fork.Int(0))
		}
	}
	p.Call(what, unix.SYS_FSCONFIG, b.context.Value(), fork.Int(unix.FSCONFIG_CMD_CREATE), fork.Int(0), fork.Int(0), fork.Int(0))
	p.Call(what, unix.SYS_FSMOUNT, b.context.Value(), fork.Int(unix.FSMOUNT_CLOEXEC), fork.Int(a.set)).To(fs)
	p.Call(what, unix.SYS_CLOSE, b.context.Value())
	if a.propagation != 0 && a.propagation != unix.MS_PRIVATE {
		b.setattr(what, fs, unix.AT_EMPTY_PATH, unix.MountAttr{Propagation: a.propagation})
	}
}

// bind adds the steps of a bind mount. The source is opened here and now, in our own view of the file system.
func (b *builder) bind(m specs.Mount, a attributes) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if a.recursive {
		flags |= unix.AT_RECURSIVE
	}
	source := b.trees[m.Destination]
	if source == nil {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
		if err != nil {
			return fmt.Errorf("cannot bind %s at %s: %w", m.Source, m.Destination, &os.PathError{Op: "open", Path: m.Source, Err: err})
		}
		source = os.NewFile(uintptr(fd), m.Source)
		b.files = append(b.files, source)
	}
	fd := int(source.Fd())
	if err := bindAttributes(fd, a); err != nil {
		return fmt.Errorf("cannot bind %s at %s: set its options: %w", m.Source, m.Destination, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("cannot bind %s: %w", m.Source, err)
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	b.target(m.Destination, "bind", dir, inRoot, b.at)
	p := b.program
	p.Call("bind "+m.Source+" at "+m.Destination, unix.SYS_MOVE_MOUNT, fork.Int(fd), p.Str(""), b.at.Value(), p.Str(""),
		fork.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	p.Call("close a target", unix.SYS_CLOSE, b.at.Value())
	return nil
}

// bindAttributes sets a detached bind's attributes. What the mount has already of nosuid, nodev, noexec and ro, the kernel keeps: they are locked in our user namespace.
func bindAttributes(fd int, a attributes) error {
	propagation := a.propagation
	if propagation == 0 {
		propagation = unix.MS_PRIVATE
	}
	attr := unix.MountAttr{Attr_set: a.set, Propagation: propagation}
	flags := uint(unix.AT_EMPTY_PATH)
	if a.recursive && (a.recursiveRO || a.set == 0) {
		flags |= unix.AT_RECURSIVE
	}
	if a.recursive && flags&unix.AT_RECURSIVE == 0 {
		// Propagation concerns the tree, the other attributes its top, unless asked otherwise.
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: propagation}); err != nil {
			return err
		}
	}
	atime := slices.Contains(a.words, "strictatime") || slices.Contains(a.words, "noatime") || slices.Contains(a.words, "relatime")
	if atime {
		attr.Attr_clr = unix.MOUNT_ATTR__ATIME // mount_setattr(2): one of them replaces another
	}
	err := unix.MountSetattr(fd, "", flags, &attr)
	if atime && errors.Is(err, unix.EPERM) {
		// How the host keeps access times is locked for us, and nobody's safety.
		attr.Attr_set, attr.Attr_clr = attr.Attr_set&^unix.MOUNT_ATTR__ATIME, 0
		err = unix.MountSetattr(fd, "", flags, &attr)
	}
	return err
}

// attach adds the step that puts a detached mount at the target in slot at, and closes the target.
func (b *builder) attach(what string, mount, at fork.Slot) {
	p := b.program
	p.Call(what, unix.SYS_MOVE_MOUNT, mount.Value(), p.Str(""), at.Value(), p.Str(""),
		fork.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	p.Call("close a target", unix.SYS_CLOSE, at.Value())
}

// setattr adds a mount_setattr(2).
func (b *builder) setattr(what string, mount fork.Slot, flags int, attr unix.MountAttr) {
	p := b.program
	p.Call(what, unix.SYS_MOUNT_SETATTR, mount.Value(), p.Str(""), fork.Int(flags), fork.Pointer(p, &attr), fork.Int(unix.MOUNT_ATTR_SIZE_VER0))
}

// open adds an openat2(2) beneath the root.
func (b *builder) open(what, name string, flags, resolve uint64, out fork.Slot) fork.Step {
	p := b.program
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	return p.Call(what, unix.SYS_OPENAT2, b.root, p.Str(name), fork.Pointer(p, how), fork.Int(unix.SizeofOpenHow)).To(out)
}

// target adds the steps that open a mount's target beneath the root, making it (a directory, or an empty file) with its parents when it is missing.
func (b *builder) target(dest, kind string, dir bool, resolve uint64, out fork.Slot) {
	p := b.program
	what := fmt.Sprintf("open %s to mount %s there", dest, kind)
	rel := strings.TrimPrefix(path.Clean(dest), "/")
	if rel == "" {
		rel = "."
	}
	if resolve&unix.RESOLVE_NO_SYMLINKS == 0 {
		rel = b.written(rel)
	}
	b.mounted[rel] = true
	flags := uint64(unix.O_PATH)
	if dir && kind != "bind" { // of which the kernel's refusal can be a file's on a directory as well (obstacle)
		flags |= unix.O_DIRECTORY
	}
	first := b.open(what, rel, flags, resolve, out).Allow(unix.ENOENT)
	before := p.Len()
	b.makeBeneath(rel, dir, resolve)
	b.open(what, rel, flags, resolve, out)
	first.SkipOnSuccess(p.Len() - before)
}

// makeBeneath adds the steps that make a directory (or, at the end, an empty file) and its parents beneath the root. Each
// component is made in a descriptor of its parent, so no link can lead a mkdir out.
func (b *builder) makeBeneath(rel string, dir bool, resolve uint64) {
	p := b.program
	parts := strings.Split(rel, "/")
	for i, name := range parts {
		so := strings.Join(parts[:i+1], "/")
		parent := path.Dir(so)
		b.open("open /"+parent, parent, unix.O_PATH|unix.O_DIRECTORY, resolve, b.parent)
		if i == len(parts)-1 && !dir {
			p.Call("make the file /"+so, unix.SYS_OPENAT, b.parent.Value(), p.Str(name),
				fork.Int(unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY), fork.Int(0o755)).To(b.scratch).Allow(unix.EEXIST).SkipOnError(1)
			p.Call("close a file", unix.SYS_CLOSE, b.scratch.Value())
		} else {
			p.Call("make the directory /"+so, unix.SYS_MKDIRAT, b.parent.Value(), p.Str(name), fork.Int(0o755)).Allow(unix.EEXIST)
		}
		p.Call("close a directory", unix.SYS_CLOSE, b.parent.Value())
	}
}

// MountOptions are the options that have a meaning for every mount, sorted.
func MountOptions() []string {
	list := []string{"bind", "rbind", "rro"}
	for o := range flagOptions {
		list = append(list, o)
	}
	for o := range propagations {
		list = append(list, o)
	}
	slices.Sort(list)
	return list
}

// Ignored are the options of a bind mount that have no meaning: those of a file system, which is there already and keeps its own.
func Ignored(m specs.Mount) []string {
	a := parseOptions(m.Options)
	if m.Type == "bind" || m.Type == "none" || a.bind {
		return a.data
	}
	return nil
}
