package run

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/storage/record"
)

// Process is a process of a container, as /proc shows it to the host.
type Process struct {
	Pid, Parent int
	State       byte   // proc(5): R, S, D, T (stopped), Z, ...
	Ticks       uint64 // user and system time, with that of children that ended, in clock ticks
}

// Processes lists a running container's processes: all of its pid namespace and what is in namespaces below it. A container that shares somebody else's
// pid namespace has those that its monitor has forked, with their children. The caller is inside the user namespace. The list is of a moment.
func (h *Host) Processes(c *record.Container) ([]Process, error) {
	st, err := h.Records.Status(c.ID)
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
	now, err := h.Records.Status(c.ID)
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

// pauseRounds is how often all processes are looked at until none is found running: what runs may fork.
const pauseRounds = 100

// ErrPaused says that the container is paused.
var ErrPaused = errors.New("the container is paused: unpause it first")

// ErrPausedAlready says that there is nothing to pause.
var ErrPausedAlready = errors.New("it is paused already")

// Pause stops every process of a container with SIGSTOP. The caller is inside the user namespace, where it may signal processes of subordinate ids.
func (h *Host) Pause(c *record.Container) error {
	st, err := h.Records.Status(c.ID)
	if err != nil {
		return err
	}
	if st.State == record.Paused {
		return fmt.Errorf("cannot pause container %s: %w", c.Name, ErrPausedAlready)
	}
	if st.State != record.Running {
		return fmt.Errorf("cannot pause container %s: it is not running", c.Name)
	}
	// Said first: whoever dies between the two leaves a container that can be unpaused.
	if err := h.Records.SetPaused(c.ID, true); err != nil {
		return fmt.Errorf("cannot pause container %s: %w", c.Name, err)
	}
	if g := h.freezer(c, st); g != nil {
		if err = g.Freeze(true); err == nil {
			h.emit(c, "pause", nil)
			return nil
		}
		return errors.Join(fmt.Errorf("cannot pause container %s: %w", c.Name, err), h.resume(c, st))
	}
	for range pauseRounds {
		var found int
		if found, err = h.signalAll(c, unix.SIGSTOP, func(p Process) bool { return !strings.ContainsRune("TtZX", rune(p.State)) }); err != nil {
			break
		}
		if found == 0 {
			h.emit(c, "pause", nil)
			return nil
		}
		<-time.After(time.Millisecond) // a signal takes effect when its process gets to run
	}
	if err == nil {
		err = errors.New("its processes do not stop")
	}
	return errors.Join(fmt.Errorf("cannot pause container %s: %w", c.Name, err), h.resume(c, st))
}

// Unpause lets a paused container's processes go on. The caller is inside the user namespace.
func (h *Host) Unpause(c *record.Container) error {
	st, err := h.Records.Status(c.ID)
	if err != nil {
		return err
	}
	if st.State != record.Paused {
		return fmt.Errorf("cannot unpause container %s: it is not paused", c.Name)
	}
	if err := h.resume(c, st); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.Name, err)
	}
	h.emit(c, "unpause", nil)
	return nil
}

// freezer is the control group of a running container that the kernel can stop as a whole; nil without one.
func (h *Host) freezer(c *record.Container, st record.Status) *cgroup.Group {
	g, err := cgroup.Of(st.Started.Pid, c.ID)
	if err != nil || !g.Freezes() {
		return nil
	}
	return g
}

func (h *Host) resume(c *record.Container, st record.Status) error {
	if g := h.freezer(c, st); g != nil {
		if err := g.Freeze(false); err != nil {
			return err
		}
	}
	_, err := h.signalAll(c, unix.SIGCONT, func(p Process) bool { return p.State == 'T' })
	if errors.Is(err, ErrNotRunning) {
		err = nil
	}
	return errors.Join(err, h.Records.SetPaused(c.ID, false))
}

// signalAll signals the container's processes that choose picks and says how many there were. A pid that is somebody else's by now is not signalled: the
// pidfd is opened, and then the process must still be one of the container's.
func (h *Host) signalAll(c *record.Container, sig unix.Signal, choose func(Process) bool) (found int, err error) {
	list, err := h.Processes(c)
	if err != nil {
		return 0, err
	}
	fds := map[int]int{}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, p := range list {
		if !choose(p) {
			continue
		}
		fd, err := unix.PidfdOpen(p.Pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("process %d: %w", p.Pid, err)
		}
		fds[p.Pid] = fd
	}
	if len(fds) == 0 {
		return 0, nil
	}
	if list, err = h.Processes(c); err != nil {
		return 0, err
	}
	for _, p := range list {
		fd, ok := fds[p.Pid]
		if !ok {
			continue
		}
		found++
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return found, fmt.Errorf("process %d: %w", p.Pid, err)
		}
	}
	return found, nil
}
