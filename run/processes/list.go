// Package processes knows a running container's processes: lists them, and stops them all or lets them go on. It keeps nothing and asks nobody: what is true is in /proc, in the control
// group's freezer and in the record's runtime directory. It runs inside the user namespace, in commands and in the monitor.
package processes

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/skiff-containers/skiff/storage/record"
)

// Process is a process of a container, as /proc shows it to the host.
type Process struct {
	Pid, Parent int
	State       byte   // proc(5): R, S, D, T (stopped), Z, ...
	Ticks       uint64 // user and system time, with that of children that ended, in clock ticks
}

// ErrNotRunning says that the container does not run.
var ErrNotRunning = errors.New("the container is not running")

// List lists a running container's processes: all of its pid namespace and what is in namespaces below it. A container that shares somebody else's
// pid namespace has those that its monitor has forked, with their children. The caller is inside the user namespace. The list is of a moment.
func List(records *record.Store, c *record.Container) ([]Process, error) {
	st, err := records.Status(c.ID)
	if err != nil {
		return nil, err
	}
	if !st.Running() {
		return nil, fmt.Errorf("%w: %s", ErrNotRunning, c.Name)
	}
	all, err := allProcesses()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of container %s: %w", c.Name, err)
	}
	init, ok := all[st.Started.Pid]
	now, err := records.Status(c.ID)
	if err != nil {
		return nil, err
	}
	if !ok || now.Started == nil || now.Started.Life != st.Started.Life || now.State == record.Exited {
		return nil, fmt.Errorf("%w: %s", ErrNotRunning, c.Name) // it ended while we looked; the pid may be somebody else's
	}
	members := map[int]bool{}
	if c.Config.Pid == "" {
		namespace := link(init.Pid, "pid")
		for pid := range all {
			if pid == init.Pid || namespace != "" && link(pid, "pid") == namespace {
				members[pid] = true
			}
		}
	} else {
		mounts := link(init.Parent, "mnt")
		for pid, p := range all {
			if pid == init.Pid || p.Parent == init.Parent && link(pid, "mnt") != mounts { // a helper shares the monitor's
				members[pid] = true
			}
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, p := range all {
			if members[p.Parent] && !members[pid] {
				members[pid], grown = true, true
			}
		}
	}
	list := make([]Process, 0, len(members))
	for pid := range members {
		list = append(list, all[pid])
	}
	slices.SortFunc(list, func(a, b Process) int { return a.Pid - b.Pid })
	return list, nil
}

// link names a namespace of a process; "" when that has gone.
func link(pid int, namespace string) string {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, namespace))
	if err != nil {
		return ""
	}
	return name
}

func allProcesses() (map[int]Process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]Process, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(pid, string(text)); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// parseStat reads /proc/PID/stat (proc_pid_stat(5)). The name in parentheses may itself contain anything.
func parseStat(pid int, text string) (Process, bool) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return Process{}, false
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 15 || len(f[0]) != 1 {
		return Process{}, false
	}
	p := Process{Pid: pid, State: f[0][0]}
	var err error
	if p.Parent, err = strconv.Atoi(f[1]); err != nil {
		return Process{}, false
	}
	for _, field := range f[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return Process{}, false
		}
		p.Ticks += n
	}
	return p, true
}
