package cgroup

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OOMKills is how many processes of the groups the kernel has killed for want of memory.
func (g *Group) OOMKills() int64 {
	switch {
	case g == nil:
		return 0
	case g.unified:
		return value(filepath.Join(g.all[""], "memory.events"), "oom_kill")
	}
	dir := g.all["memory"]
	if dir == "" {
		return 0
	}
	return value(filepath.Join(dir, "memory.oom_control"), "oom_kill")
}

// OOMEvents is a file that can be read from when memory has run out in the groups; nil when they have no limit of it. Whoever reads looks at OOMKills then.
func (g *Group) OOMEvents() (*os.File, error) {
	var fd int
	var err error
	switch {
	case g == nil || !g.unified && g.all["memory"] == "":
		return nil, nil
	case g.unified: // "the file modified event" of memory.events (cgroup-v2.rst)
		name := filepath.Join(g.all[""], "memory.events")
		if _, err := os.Stat(name); err != nil {
			return nil, nil //nolint:nilerr // no memory controller, no limit
		}
		if fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
			if _, err = unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); err != nil {
				unix.Close(fd)
			}
		}
	default: // an eventfd that is told to the group (memcg_test.rst, "OOM Control")
		if fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
			if err = g.register(fd); err != nil {
				unix.Close(fd)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch the control group's memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "out of memory"), nil
}

func (g *Group) register(event int) error {
	dir := g.all["memory"]
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return err
	}
	defer control.Close() // the kernel keeps what it needs
	return write(filepath.Join(dir, "cgroup.event_control"), fmt.Sprintf("%d %d", event, control.Fd()))
}
