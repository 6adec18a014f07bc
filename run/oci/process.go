package oci

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// The descriptors of a process before it executes: its standard streams, those that it keeps, the channel, which the execve closes, and when it is held the listener.

// channelFD is the channel's number.
func (b *builder) channelFD() int { return 3 + b.keep }

// firstFree is the first number that nothing has.
func (b *builder) firstFree() int {
	if b.listener != nil {
		return b.channelFD() + 2
	}
	return b.channelFD() + 1
}

// The bytes of the child's messages; an error has eight.
const (
	messageConsole byte = 'c'
	messageHooks   byte = 'h' // all is mounted; it waits
	messageReady   byte = 'r' // all is done; it waits
)

// builder collects the steps of one process.
type builder struct {
	program  *fork.Program
	root     fork.Arg
	image    *os.File            // the root file system as it is before anything is mounted in it; nil in a running container
	mounted  map[string]bool     // targets of the mounts so far, beneath the root
	files    []*os.File          // opened for the child, closed when it has been forked
	trees    map[string]*os.File // Bundle.Trees
	keep     int                 // descriptors from 3 up that stay open
	listener *os.File            // nil unless the process is held
	launch   int                 // the first step of the start
	// slots, named for what they hold
	rootSlot, context, made, at, parent, scratch, proc, devpts, ptmx, tty, empty, null fork.Slot
	hasDevpts                                                                          bool
}

func newBuilder() *builder {
	p := &fork.Program{}
	return &builder{
		program:  p,
		mounted:  map[string]bool{},
		rootSlot: p.Slot(), context: p.Slot(), made: p.Slot(), at: p.Slot(), parent: p.Slot(), scratch: p.Slot(),
		proc: p.Slot(), devpts: p.Slot(), ptmx: p.Slot(), tty: p.Slot(), empty: p.Slot(), null: p.Slot(),
	}
}

// Close closes what was opened for the child.
func (b *builder) Close() {
	for _, f := range b.files {
		f.Close()
	}
}

func controlBytes[T any](v *T) *byte { return (*byte)(unsafe.Pointer(v)) }

// joinCgroups adds the steps that put the process into control groups; it writes its own "0", so the groups' root is still in sight.
func (b *builder) joinCgroups(dirs []string) {
	p := b.program
	for _, dir := range dirs {
		what := "join the control group " + dir
		p.Call(what, unix.SYS_OPENAT, fork.Cwd(), p.Str(dir+"/cgroup.procs"), fork.Int(unix.O_WRONLY|unix.O_CLOEXEC)).To(b.scratch)
		p.Call(what, unix.SYS_WRITE, b.scratch.Value(), p.Str("0"), fork.Int(1))
		p.Call(what, unix.SYS_CLOSE, b.scratch.Value())
	}
}

// streams adds the steps that put the standard streams in place and close everything else but the channel.
func (b *builder) streams(stdio [3]*os.File, terminal bool, channel fork.Arg) error {
	p := b.program
	// Sources above the numbers they go to, so that none is overwritten before it is used.
	for i, f := range stdio {
		if terminal {
			p.Call("open the terminal as a standard stream", unix.SYS_DUP3, b.tty.Value(), fork.Int(i), fork.Int(0))
			continue
		}
		var fd int
		var err error
		if f == nil {
			fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err == nil {
				f = os.NewFile(uintptr(fd), "/dev/null")
				b.files = append(b.files, f)
			}
		}
		if err == nil {
			fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, b.firstFree())
		}
		if err != nil {
			return fmt.Errorf("cannot prepare standard stream %d: %w", i, err)
		}
		b.files = append(b.files, os.NewFile(uintptr(fd), "stream"))
		p.Call("open a standard stream", unix.SYS_DUP3, fork.Int(fd), fork.Int(i), fork.Int(0))
	}
	p.Call("keep the channel", unix.SYS_DUP3, channel, fork.Int(b.channelFD()), fork.Int(unix.O_CLOEXEC))
	if b.listener != nil {
		p.Call("keep the listener", unix.SYS_DUP3, fork.Int(b.listener.Fd()), fork.Int(b.channelFD()+1), fork.Int(unix.O_CLOEXEC))
	}
	// Close, not mark: from here on nothing of the host can be reached through /proc/self/fd (CVE-2024-21626).
	p.Call("close descriptors", unix.SYS_CLOSE_RANGE, fork.Int(b.firstFree()), fork.Int(uint32(0xffffffff)), fork.Int(0))
	if terminal {
		p.Call("take the terminal", unix.SYS_IOCTL, fork.Int(0), fork.Int(unix.TIOCSCTTY), fork.Int(0))
	}
	return nil
}

// workdir adds the steps that change to the working directory, making it if it is missing, as root. It is resolved without magic links: a
// WORKDIR of /proc/self/fd/N is no way out.
func (b *builder) workdir(dir string, create bool) {
	p := b.program
	if dir == "" {
		dir = "/"
	}
	rel := strings.TrimPrefix(path.Clean(dir), "/")
	if rel == "" {
		rel = "."
	}
	if create {
		rel = b.written(rel)
	}
	b.open("open /", "/", unix.O_PATH|unix.O_DIRECTORY, 0, b.rootSlot)
	b.root = b.rootSlot.Value()
	first := b.open("chdir "+dir, rel, unix.O_PATH|unix.O_DIRECTORY, inRoot, b.at)
	if create {
		first.Allow(unix.ENOENT)
		before := p.Len()
		b.makeBeneath(rel, true, inRoot)
		b.open("chdir "+dir, rel, unix.O_PATH|unix.O_DIRECTORY, inRoot, b.at)
		first.SkipOnSuccess(p.Len() - before)
	}
	p.Call("chdir "+dir, unix.SYS_FCHDIR, b.at.Value())
	p.Call("close the working directory", unix.SYS_CLOSE, b.at.Value())
	p.Call("close /", unix.SYS_CLOSE, b.rootSlot.Value())
}

// rlimitNumbers are setrlimit(2)'s resources by their names in a spec.
var rlimitNumbers = map[string]int{
	"RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_STACK": unix.RLIMIT_STACK,
	"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
}

func (b *builder) rlimits(limits []specs.POSIXRlimit) error {
	p := b.program
	for _, l := range limits {
		n, ok := rlimitNumbers[l.Type]
		if !ok {
			return fmt.Errorf("cannot set the limit %s: unknown resource", l.Type)
		}
		p.Call(fmt.Sprintf("set the limit %s to %d:%d", l.Type, l.Soft, l.Hard), unix.SYS_PRLIMIT64, fork.Int(0), fork.Int(n),
			fork.Pointer(p, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}), fork.Int(0))
	}
	return nil
}

// credentials adds the steps that make the process the spec's user with the spec's capabilities, install the seccomp filter, and set the parent-death signal once more
// (the kernel clears it when credentials change).
func (b *builder) credentials(pr *specs.Process, filter []unix.SockFilter, deathsig bool) error {
	p := b.program
	caps, err := parseCapabilities(pr.Capabilities)
	if err != nil {
		return err
	}
	last := lastCapability()
	for c := range last + 1 {
		if caps.bounding&(1<<c) == 0 {
			p.Call("drop capability "+capabilityName(c), unix.SYS_PRCTL, fork.Int(unix.PR_CAPBSET_DROP), fork.Int(c), fork.Int(0), fork.Int(0), fork.Int(0))
		}
	}
	if pr.NoNewPrivileges {
		p.Call("set no_new_privs", unix.SYS_PRCTL, fork.Int(unix.PR_SET_NO_NEW_PRIVS), fork.Int(1), fork.Int(0), fork.Int(0), fork.Int(0))
	}
	groups := pr.User.AdditionalGids
	list := make([]uint32, len(groups)+1)
	copy(list, groups)
	set := p.Call("set the groups", unix.SYS_SETGROUPS, fork.Int(len(groups)), fork.Pointer(p, &list[0]))
	alone := !slices.ContainsFunc(groups, func(g uint32) bool { return g != pr.User.GID })
	if alone && SetgroupsDenied() {
		// In a user namespace of a single id nobody may change groups (user_namespaces(7)), and there are none to change to.
		set.Allow(unix.EPERM)
	}
	p.Call(fmt.Sprintf("become group %d", pr.User.GID), unix.SYS_SETRESGID, fork.Int(pr.User.GID), fork.Int(pr.User.GID), fork.Int(pr.User.GID))
	// Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes before the capabilities go; with it, last, where it has the fewest calls of ours to judge.
	if !pr.NoNewPrivileges {
		b.seccomp(filter)
	}
	p.Call("keep capabilities", unix.SYS_PRCTL, fork.Int(unix.PR_SET_KEEPCAPS), fork.Int(1), fork.Int(0), fork.Int(0), fork.Int(0))
	p.Call(fmt.Sprintf("become user %d", pr.User.UID), unix.SYS_SETRESUID, fork.Int(pr.User.UID), fork.Int(pr.User.UID), fork.Int(pr.User.UID))
	type header struct {
		version uint32
		pid     int32
	}
	d := &[2]unix.CapUserData{
		{Effective: uint32(caps.effective), Permitted: uint32(caps.permitted), Inheritable: uint32(caps.inheritable)},
		{Effective: uint32(caps.effective >> 32), Permitted: uint32(caps.permitted >> 32), Inheritable: uint32(caps.inheritable >> 32)},
	}
	p.Call("set the capabilities", unix.SYS_CAPSET, fork.Pointer(p, &header{version: unix.LINUX_CAPABILITY_VERSION_3}), fork.Pointer(p, d))
	for c := range last + 1 {
		if caps.ambient&(1<<c) != 0 {
			p.Call("raise ambient capability "+capabilityName(c), unix.SYS_PRCTL, fork.Int(unix.PR_CAP_AMBIENT), fork.Int(unix.PR_CAP_AMBIENT_RAISE), fork.Int(c), fork.Int(0), fork.Int(0))
		}
	}
	if deathsig {
		p.Call("tie our life to the monitor's", unix.SYS_PRCTL, fork.Int(unix.PR_SET_PDEATHSIG), fork.Int(unix.SIGKILL), fork.Int(0), fork.Int(0), fork.Int(0))
	}
	if pr.NoNewPrivileges {
		b.seccomp(filter)
	}
	return nil
}

// SetgroupsDenied says whether nobody in the calling process's user namespace may change groups, as in one of a single id (user_namespaces(7)).
func SetgroupsDenied() bool {
	data, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.HasPrefix(string(data), "deny")
}

// seccomp adds the step that installs a filter.
func (b *builder) seccomp(filter []unix.SockFilter) {
	if len(filter) == 0 {
		return
	}
	p := b.program
	prog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	p.Call("install the seccomp filter", unix.SYS_SECCOMP, fork.Int(unix.SECCOMP_SET_MODE_FILTER), fork.Int(unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW), fork.Pointer(p, prog))
}

// execute adds the attempts to execute file ("": the command's first word): the path as it is when it has a slash, else each directory of the process's own PATH.
func (b *builder) execute(pr *specs.Process, file string) error {
	p := b.program
	if len(pr.Args) == 0 || pr.Args[0] == "" {
		return fmt.Errorf("cannot start the process: no command")
	}
	for _, s := range append(append([]string{}, pr.Args...), pr.Env...) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("cannot start the process: a NUL byte in %q", s)
		}
	}
	if file == "" {
		file = pr.Args[0]
	}
	argv, envv := p.Strings(pr.Args), p.Strings(pr.Env)
	for _, candidate := range candidates(file, pr.Env) {
		p.Exec(candidate, argv, envv)
	}
	return nil
}

// refuseOurselves adds steps that fail when the command's path leads through /proc/self/exe, which would be ourselves. Whatever else is wrong with a path, the execve says it. They come before the
// seccomp filter, which may know nothing of openat2(2).
func (b *builder) refuseOurselves(pr *specs.Process, file string) {
	p := b.program
	if file == "" && len(pr.Args) > 0 {
		file = pr.Args[0]
	}
	how := fork.Pointer(p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	for _, candidate := range candidates(file, pr.Env) {
		p.Call("exec", unix.SYS_OPENAT2, fork.Cwd(), p.Str(candidate), how, fork.Int(unix.SizeofOpenHow)).Allow(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
}

// candidates are the paths that name may mean, as execvp(3) tries them.
func candidates(name string, env []string) []string {
	if strings.ContainsRune(name, '/') {
		return []string{name}
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			search = value
		}
	}
	var found []string
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		found = append(found, dir+"/"+name)
	}
	return found
}
