// Package cgroup puts a container's processes into control groups of their own when limits are asked for, with what an ordinary user may do: on
// cgroup v2 in a subtree that was delegated to the user, on v1 (and the v1 controllers of a hybrid machine) in directories that the user may write to.
//
// It runs in the monitor. A limit that cannot be applied is an error that names the flag; none is dropped silently. Without limits
// nothing is looked at and nothing is made. On cgroup v2 the user's systemd is asked for a delegated scope, when there is one and nothing was delegated yet.
package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
)

// ErrNotDelegated says that a controller is not the user's to use.
var ErrNotDelegated = errors.New("not delegated to this user")

// withheld is a controller of cgroup v2 that whoever delegated a group kept back.
type withheld struct{ controller string }

func (w withheld) Error() string {
	return "the " + w.controller + " controller is " + ErrNotDelegated.Error()
}

// Unwrap gives what it is a case of.
func (w withheld) Unwrap() error { return ErrNotDelegated }

// LimitError is a limit that cannot be applied.
type LimitError struct {
	Flag string
	Err  error
}

func (e *LimitError) Error() string { return fmt.Sprintf("cannot apply %s: %v", e.Flag, e.Err) }

// Unwrap gives the reason.
func (e *LimitError) Unwrap() error { return e.Err }

// HintText is what the user can do; commands print it on a line of its own.
func (e *LimitError) HintText() string {
	var kept withheld
	if errors.As(e.Err, &kept) {
		return "have the administrator delegate it (`sudo systemctl edit user@.service`: [Service] Delegate=cpu cpuset io memory pids; then log in again), or leave " + e.Flag + " out"
	}
	if errors.Is(e.Err, ErrNotDelegated) {
		return "start it in a delegated scope (systemd-run --user --scope -p Delegate=yes skiff ...), name a group of yours with --cgroup-parent, or leave " + e.Flag + " out"
	}
	if errors.Is(e.Err, errNothingWeighs) {
		return "have the administrator choose that one (echo bfq >/sys/block/DISK/queue/scheduler), or leave " + e.Flag + " out"
	}
	switch {
	case e.Flag == "--cpuset-cpus" && errors.Is(e.Err, unix.ERANGE), e.Flag == "--cpuset-cpus" && errors.Is(e.Err, unix.EINVAL):
		return "name processors that there are (/sys/devices/system/cpu/online), such as 0-1 or 0,2"
	case e.Flag == "--cpuset-mems" && errors.Is(e.Err, unix.ERANGE), e.Flag == "--cpuset-mems" && errors.Is(e.Err, unix.EINVAL):
		return "name memory nodes that there are (/sys/devices/system/node/online), such as 0"
	case e.Flag == "--cpus" && errors.Is(e.Err, unix.EINVAL):
		return "the kernel counts a hundredth of a processor (0.01) as the least"
	}
	return ""
}

// Host is where a machine has its control groups, and which of them this process is in.
type Host struct {
	Unified bool   // one hierarchy (v2) at Root; otherwise a directory per controller (v1, hybrid)
	Root    string // /sys/fs/cgroup
	// self is this process's group in each v1 controller, and "" in v2.
	self map[string]string
	// mine says that our own group of v2 was delegated to us (with its leaf, when we were moved into one): what is above it belongs to somebody else, systemd as a rule.
	mine bool
}

// root is where every distribution mounts control groups.
const root = "/sys/fs/cgroup"

// Probe looks at the machine.
func Probe() (*Host, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, fmt.Errorf("cannot look at %s: %w", root, err)
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("cannot read this process's control groups: %w", err)
	}
	h := &Host{Unified: st.Type == unix.CGROUP2_SUPER_MAGIC, Root: root, self: parseSelf(string(data))}
	if h.Unified {
		h.mine = h.delegated()
	}
	return h, nil
}

// leafName is the leaf that the processes of a delegated group go to.
const leafName = "skiff-main"

// delegated says whether systemd marked our own group, or the one whose leaf it is, as delegated (user.delegate, systemd.resource-control(5)). The group becomes our own then.
func (h *Host) delegated() bool {
	own := h.self[""]
	if path.Base(own) == leafName {
		own = path.Dir(own)
	}
	mark := make([]byte, 4)
	n, err := unix.Getxattr(filepath.Join(h.Root, own), "user.delegate", mark)
	if err != nil || string(mark[:n]) != "1" || !writable(filepath.Join(h.Root, own)) {
		return false
	}
	h.self[""] = own
	return true
}

// parseSelf reads /proc/self/cgroup: lines of NUMBER:CONTROLLERS:PATH.
func parseSelf(text string) map[string]string {
	self := make(map[string]string)
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			self[controller] = f[2]
		}
	}
	return self
}

// Group is a container's control groups. A nil Group is none, and its methods do nothing.
type Group struct {
	// Dirs are directories whose cgroup.procs the first process is written to (v1).
	Dirs []string
	// FD is the directory that processes are cloned into (v2).
	FD *os.File

	unified bool
	all     map[string]string // directory by controller; "" is v2's
	note    Note
}

// Note is told of each group before it is made, so that somebody can end it when whoever made it is killed (End). nil for a group that nobody is to look after.
type Note func(dir string) error

// Create makes the groups that the limits need, with the limits in place, below parent (a path within the hierarchy, "" chooses). Without limits
// and parent it returns nil. On error nothing is left.
func Create(id, parent string, limits config.Limits, note Note) (*Group, error) {
	if parent == "" && !asked(limits) {
		return nil, nil
	}
	h, err := Probe()
	if err != nil {
		return nil, err
	}
	var noScope error
	if h.Unified && parent == "" && !h.mine {
		var scoped *Host
		if scoped, noScope = enterScope(fmt.Sprintf("skiff-%.12s-%d", id, os.Getpid())); noScope == nil {
			h = scoped
		}
	}
	g, err := h.Create(id, parent, limits, note)
	var l *LimitError
	if noScope != nil && errors.As(err, &l) && errors.Is(err, ErrNotDelegated) {
		err = &LimitError{l.Flag, fmt.Errorf("%w, and %w", l.Err, noScope)}
	}
	return g, err
}

// Create is the package's Create on a machine that has been looked at.
func (h *Host) Create(id, parent string, limits config.Limits, note Note) (*Group, error) {
	if parent != "" && !filepath.IsLocal(strings.TrimPrefix(parent, "/")) {
		return nil, fmt.Errorf("invalid --cgroup-parent %q: write a path within the control groups, such as /user.slice/mine", parent)
	}
	list, err := h.settings(limits)
	if err != nil {
		return nil, err
	}
	return h.create("skiff-"+id, parent, list, note)
}

// CreateAt makes groups with the limits at a path within the hierarchies whose parent is there: below our own groups when it is a mere name. On error nothing is left.
func CreateAt(at string, limits config.Limits) (*Group, error) {
	parent, name := path.Split(path.Clean(at))
	if name == "" || name == "." || !filepath.IsLocal(strings.TrimPrefix(path.Clean(at), "/")) {
		return nil, fmt.Errorf("%q is no path within the control groups", at)
	}
	h, err := Probe()
	if err != nil {
		return nil, err
	}
	list, err := h.settings(limits)
	if err != nil {
		return nil, err
	}
	return h.create(name, strings.TrimSuffix(parent, "/"), list, nil)
}

// Paths are the groups' directories, sorted.
func (g *Group) Paths() []string {
	if g == nil {
		return nil
	}
	return slices.Sorted(maps.Values(g.all))
}

// create makes groups called name below parent.
func (h *Host) create(name, parent string, list []setting, note Note) (*Group, error) {
	g := &Group{unified: h.Unified, all: make(map[string]string), note: note}
	var err error
	if h.Unified {
		err = h.makeV2(g, name, parent, list)
	} else {
		err = h.makeV1(g, name, parent, list)
	}
	if err == nil {
		err = g.apply(list)
	}
	if err != nil {
		return nil, errors.Join(err, g.Delete())
	}
	return g, nil
}

// apply writes the limits.
func (g *Group) apply(list []setting) error {
	for _, s := range list {
		dir := g.all[s.controller]
		if g.unified {
			dir = g.all[""]
		}
		err := error(unix.ENOENT)
		for _, f := range s.files {
			if next := f.apply(dir); !errors.Is(next, unix.ENOENT) {
				if err = next; !errors.Is(err, errNothingWeighs) {
					break
				}
			}
		}
		if s.optional && errors.Is(err, unix.ENOENT) {
			continue
		}
		if errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("this kernel has no %s", s.files[0].name)
		}
		if err != nil {
			return &LimitError{s.flag, err}
		}
	}
	return nil
}

// apply writes the value to the file in dir, if that has an effect.
func (f file) apply(dir string) error {
	name := filepath.Join(dir, f.name)
	if f.needs != nil {
		if _, err := os.Stat(name); err != nil {
			return err
		}
		if err := f.needs(); err != nil {
			return err
		}
	}
	return write(name, f.value)
}

// write writes to a file of the control group file system, which must be there: O_CREAT says EACCES instead.
func write(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
