// Package userns makes and joins the user's user namespace: uid and gid 0 inside are the user, 1 and up are the
// user's subordinate ids. The first process that needs it makes it, under a lock; later ones join it through any member that
// lives. Nothing is kept alive to pin it.
//
// Its code runs in the front (or wherever a stage is started from); what it starts runs inside.
package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Options of Start.
type Options struct {
	Path  string     // the program
	Args  []string   // argv; argv[0] is the stage's name
	Env   []string   // nil is the caller's
	Files []*os.File // the child's descriptors 0, 1, 2, ...; nil entries are /dev/null
	Dir   string     // working directory; "" is the caller's
	// Setsid puts the child in a session of its own.
	Setsid bool
	// RunDir is the runtime directory (record.Store.Run): where living members announce themselves, and where the lock is that makes making exclusive.
	RunDir string
	// Member says that the child will announce itself (RunDir/<id>/pid): it inherits the namespace's lock as descriptor len(Files), and lets go of it
	// when it has.
	Member bool
	// Early lets the program begin before the id maps are written, which hides half its start-up time. It must touch nothing before it
	// hears from its starter, who speaks after Start has returned.
	Early bool
	// Tell is called when Start has waited long for another process; nil is silence.
	Tell func(what string)
}

// Child is a process started inside the namespace. It is the caller's child in every sense.
type Child struct {
	Pid   int
	PidFD *os.File // pollable; close-on-exec
	// Made says that the namespace was made for it; otherwise it joined a living one.
	Made bool
}

// Starting is a process that has been forked, and whose user namespace may still be without its id maps.
type Starting struct {
	child *fork.Child
	what  string // the program's argv[0]
	early bool
	maps  func() error // waits for the id maps; nil when a namespace was joined
}

// Start starts a program as root of the user's user namespace, with all capabilities there and a mount namespace of its own, whose mounts do not propagate out.
// It joins the namespace of a living member, or makes a new one. Errors name what forbids it and what to do (*Forbidden).
func Start(o Options) (*Child, error) {
	s, err := Begin(o)
	if err != nil {
		return nil, err
	}
	return s.Finish()
}

// Begin is the first part of Start: it returns as soon as the process is forked, so that the caller has something to do while the id maps are written and
// the program begins (Options.Early). Finish or Abort must follow.
func Begin(o Options) (*Starting, error) {
	room := 12 // its threads, and those that set up the maps
	if o.Early {
		room = 24 // a monitor: the container's process, and the switch
	}
	if err := fork.Spare(room, o.Args[0]); err != nil {
		return nil, err
	}
	// The lock is shared while joining and exclusive while making, and is held until the child can be found by others:
	// so no two namespaces are made by commands that start at once.
	if err := os.MkdirAll(o.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the runtime directory: %w", err)
	}
	path := o.RunDir + "/userns.lock"
	tell := func(string) {
		if o.Tell != nil {
			o.Tell("waiting for another skiff to make the user namespace (" + path + ")")
		}
	}
	mode := disk.Shared
	for {
		lock, err := disk.WaitLock(path, mode, tell)
		if err != nil {
			return nil, fmt.Errorf("cannot lock the user namespace: %w", err)
		}
		s, err := tryJoin(o, lock)
		if err != nil || s != nil {
			return s, errors.Join(err, lock.Unlock())
		}
		if !o.Member || mode == disk.Exclusive {
			// Somebody that no one will join through needs no exclusion.
			s, err := spawn(o, lock, nil, startMaps)
			if err != nil {
				err = explain(err)
			}
			return s, errors.Join(err, lock.Unlock())
		}
		if err := lock.Unlock(); err != nil {
			return nil, err
		}
		mode = disk.Exclusive
	}
}

// Finish waits until the id maps are written and the program is executed.
func (s *Starting) Finish() (*Child, error) {
	err := s.finish()
	if err == nil {
		return &Child{Pid: s.child.Pid, PidFD: s.child.PidFD, Made: s.maps != nil}, s.child.Channel.Close()
	}
	if s.maps != nil {
		err = explain(err)
	}
	reapFailed(s.child)
	return nil, errors.Join(err, s.child.Channel.Close())
}

func (s *Starting) finish() error {
	if s.maps != nil {
		if err := s.maps(); err != nil {
			return err
		}
		if !s.early {
			if _, err := s.child.Channel.Write([]byte{0}); err != nil {
				return fmt.Errorf("cannot start %s: %w", s.what, err)
			}
		}
	}
	if _, err := s.child.Report(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot start %s: %w", s.what, err)
	}
	return nil
}

// Abort ends a process that is not wanted any more; its namespace goes with it when it made one. What is wrong with the namespace's maps is not said: they may just have come too late for a process
// that has heard already that nobody wants it.
func (s *Starting) Abort() error {
	if s.maps != nil {
		_ = s.maps() // whoever wants a namespace hears of it
	}
	reapFailed(s.child)
	return s.child.Channel.Close()
}

// tryJoin starts the child in a living member's namespace; nil without error means that there is none.
func tryJoin(o Options, lock *disk.Lock) (*Starting, error) {
	own, err := namespaceOf("self")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	for _, m := range members(o.RunDir) {
		ns, err := m.namespace()
		if err != nil {
			continue // it ended meanwhile
		}
		var target *os.File
		if inode(ns) != inode(own) {
			target = ns
		}
		if target != nil && !joinable(ns, own) {
			ns.Close()
			continue // one we have no rights over, such as one nested in ours
		}
		s, err := spawn(o, lock, target, nil)
		ns.Close()
		return s, err
	}
	return nil, nil
}

// joinable says whether we may join a user namespace (setns(2)): its owner may, from the namespace right above it.
func joinable(ns, own *os.File) bool {
	owner, err := unix.IoctlGetUint32(int(ns.Fd()), unix.NS_GET_OWNER_UID) // ioctl_ns(2)
	if err != nil || int(owner) != os.Geteuid() {
		return false
	}
	above, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_PARENT) // EPERM: it is not below ours
	if err != nil {
		return false
	}
	parent := os.NewFile(uintptr(above), "user namespace")
	defer parent.Close()
	return inode(parent) == inode(own)
}

// spawn forks, joins target (nil: the caller's own, or with fresh a new one, which that gives its maps) and executes o's program.
func spawn(o Options, lock *disk.Lock, target *os.File, fresh mapper) (*Starting, error) {
	channel, err := fork.NewChannel()
	if err != nil {
		return nil, err
	}
	p := &fork.Program{}
	var flags uintptr
	if fresh != nil {
		flags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
		if o.Early {
			keepCapabilities(p)
		} else {
			awaitMaps(p, channel)
		}
	} else {
		if target != nil {
			p.Call("join the user namespace", unix.SYS_SETNS, fork.Int(target.Fd()), fork.Int(unix.CLONE_NEWUSER))
		}
		p.Call("make a mount namespace", unix.SYS_UNSHARE, fork.Int(unix.CLONE_NEWNS))
		if target == nil {
			p.Call("keep mounts from propagating", unix.SYS_MOUNT, p.Str("none"), p.Str("/"), fork.Int(0), fork.Int(unix.MS_REC|unix.MS_SLAVE), fork.Int(0))
		} else {
			p.Call("become root of the user namespace", unix.SYS_SETRESGID, fork.Int(0), fork.Int(0), fork.Int(0))
			p.Call("become root of the user namespace", unix.SYS_SETRESUID, fork.Int(0), fork.Int(0), fork.Int(0))
		}
	}
	closeFiles, err := prepareExec(p, o, lock)
	if err != nil {
		channel.Close()
		return nil, err
	}
	defer closeFiles()
	child, err := fork.Start(p, channel, fork.Options{Namespaces: flags, Borrow: fresh == nil || o.Early})
	runtime.KeepAlive(o)
	runtime.KeepAlive(target)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", o.Args[0], err)
	}
	started := &Starting{child: child, what: o.Args[0], early: o.Early}
	if fresh != nil {
		if started.maps, err = fresh(child.Pid); err != nil {
			return nil, reap(child, err)
		}
	}
	return started, nil
}

// keepCapabilities makes the capabilities of a new user namespace survive the execve(2) that comes before the maps: as long as the
// process's uid is unmapped, only ambient capabilities do.
func keepCapabilities(p *fork.Program) {
	type header struct {
		version uint32
		pid     int32
	}
	h := fork.Pointer(p, &header{version: unix.LINUX_CAPABILITY_VERSION_3})
	all := lastCapability()
	low, high := uint32(0xffffffff), uint32(1)<<(all-31)-1
	d := fork.Pointer(p, &[2]unix.CapUserData{{Effective: low, Permitted: low, Inheritable: low}, {Effective: high, Permitted: high, Inheritable: high}})
	p.Call("keep capabilities", unix.SYS_CAPSET, h, d)
	for c := range all + 1 {
		p.Call("keep capabilities", unix.SYS_PRCTL, fork.Int(unix.PR_CAP_AMBIENT), fork.Int(unix.PR_CAP_AMBIENT_RAISE), fork.Int(c), fork.Int(0), fork.Int(0))
	}
}

// lastCapability is the highest capability of the running kernel, asked of prctl(2): no file system needed.
func lastCapability() int {
	c := 31
	for c < 63 {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c+1), 0, 0, 0); err != nil {
			break
		}
		c++
	}
	return c
}

// awaitMaps holds the child until its maps are written, then makes it root.
func awaitMaps(p *fork.Program, channel *fork.Channel) {
	p.Call("wait for the id maps", unix.SYS_READ, channel.Child(), p.Bytes(make([]byte, 8)), fork.Int(8)).AtLeast(1)
	p.Call("become root of the user namespace", unix.SYS_SETRESGID, fork.Int(0), fork.Int(0), fork.Int(0))
	p.Call("become root of the user namespace", unix.SYS_SETRESUID, fork.Int(0), fork.Int(0), fork.Int(0))
}

// prepareExec adds the steps from file descriptors to execve.
func prepareExec(p *fork.Program, o Options, lock *disk.Lock) (cleanup func(), err error) {
	files := o.Files
	if o.Member {
		files = append(append([]*os.File{}, files...), lock.File())
	}
	var opened []int
	cleanup = func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}
	// Duplicates above the numbers to be filled, so that no dup3 overwrites a source.
	from := make([]int, len(files))
	for i, f := range files {
		var fd int
		if f == nil {
			fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err == nil {
				opened = append(opened, fd)
			}
		} else {
			fd = int(f.Fd())
		}
		if err == nil && fd < len(files) {
			fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, len(files)+1)
			if err == nil {
				opened = append(opened, fd)
			}
		}
		if err != nil {
			cleanup()
			return nil, fmt.Errorf("cannot prepare descriptor %d: %w", i, err)
		}
		from[i] = fd
	}
	if o.Setsid {
		p.Call("make a session", unix.SYS_SETSID)
	}
	if o.Dir != "" {
		p.Call("change to "+o.Dir, unix.SYS_CHDIR, p.Str(o.Dir))
	}
	for i, fd := range from {
		p.Call("pass a descriptor", unix.SYS_DUP3, fork.Int(fd), fork.Int(i), fork.Int(0))
	}
	p.Call("close descriptors", unix.SYS_CLOSE_RANGE, fork.Int(len(files)), fork.Int(uint32(0xffffffff)), fork.Int(unix.CLOSE_RANGE_CLOEXEC))
	env := o.Env
	if env == nil {
		env = os.Environ()
	}
	// What runs is our binary seen through a detached read-only mount: until a container's process has executed its payload, its /proc/self/exe is this
	// file, and in a rootless container root may own it (CVE-2019-5736).
	program := p.Slot()
	p.Call("open "+o.Path, unix.SYS_OPEN_TREE, fork.Cwd(), p.Str(o.Path), fork.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(program)
	p.Call("seal "+o.Path, unix.SYS_MOUNT_SETATTR, program.Value(), p.Str(""), fork.Int(unix.AT_EMPTY_PATH),
		fork.Pointer(p, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}), fork.Int(unix.MOUNT_ATTR_SIZE_VER0))
	p.Call("execute "+o.Path, unix.SYS_EXECVEAT, program.Value(), p.Str(""), p.Strings(o.Args), p.Strings(env), fork.Int(unix.AT_EMPTY_PATH))
	return cleanup, nil
}

// reapFailed ends and reaps a child that did not come to its program.
func reapFailed(c *fork.Child) {
	_ = unix.PidfdSendSignal(int(c.PidFD.Fd()), unix.SIGKILL, nil, 0) // it may have ended by itself
	_, _ = unix.Wait4(c.Pid, nil, 0, nil)
	c.PidFD.Close()
}

// Wait waits for the child's end: its exit code, or 128+n after signal n.
func (c *Child) Wait() (int, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.Pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("cannot wait for process %d: %w", c.Pid, err)
		}
		c.PidFD.Close()
		if ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}

// Signal sends a signal to the child.
func (c *Child) Signal(sig unix.Signal) error {
	return unix.PidfdSendSignal(int(c.PidFD.Fd()), sig, nil, 0)
}
