package processes

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/storage/record"
)

// pauseRounds is how often all processes are looked at until none is found running: what runs may fork.
const pauseRounds = 100

// ErrPausedAlready says that there is nothing to pause.
var ErrPausedAlready = errors.New("it is paused already")

// Pause stops every process of a container with SIGSTOP. The caller is inside the user namespace, where it may signal processes of subordinate ids.
func Pause(records *record.Store, c *record.Container) error {
	st, err := records.Status(c.ID)
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
	if err := records.SetPaused(c.ID, true); err != nil {
		return fmt.Errorf("cannot pause container %s: %w", c.Name, err)
	}
	if g := freezer(c, st); g != nil {
		if err = g.Freeze(true); err == nil {
			return nil
		}
		return errors.Join(fmt.Errorf("cannot pause container %s: %w", c.Name, err), resume(records, c, st))
	}
	for range pauseRounds {
		var found int
		if found, err = signalAll(records, c, unix.SIGSTOP, func(p Process) bool { return !strings.ContainsRune("TtZX", rune(p.State)) }); err != nil {
			break
		}
		if found == 0 {
			return nil
		}
		<-time.After(time.Millisecond) // a signal takes effect when its process gets to run
	}
	if err == nil {
		err = errors.New("its processes do not stop")
	}
	return errors.Join(fmt.Errorf("cannot pause container %s: %w", c.Name, err), resume(records, c, st))
}

// Unpause lets a paused container's processes go on. The caller is inside the user namespace.
func Unpause(records *record.Store, c *record.Container) error {
	st, err := records.Status(c.ID)
	if err != nil {
		return err
	}
	if st.State != record.Paused {
		return fmt.Errorf("cannot unpause container %s: it is not paused", c.Name)
	}
	if err := resume(records, c, st); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.Name, err)
	}
	return nil
}

// freezer is the control group of a running container that the kernel can stop as a whole; nil without one.
func freezer(c *record.Container, st record.Status) *cgroup.Group {
	g, err := cgroup.Of(st.Started.Pid, c.ID)
	if err != nil || !g.Freezes() {
		return nil
	}
	return g
}

func resume(records *record.Store, c *record.Container, st record.Status) error {
	if g := freezer(c, st); g != nil {
		if err := g.Freeze(false); err != nil {
			return err
		}
	}
	_, err := signalAll(records, c, unix.SIGCONT, func(p Process) bool { return p.State == 'T' })
	if errors.Is(err, ErrNotRunning) {
		err = nil
	}
	return errors.Join(err, records.SetPaused(c.ID, false))
}

// signalAll signals the container's processes that choose picks and says how many there were. A pid that is somebody else's by now is not signalled: the
// pidfd is opened, and then the process must still be one of the container's.
func signalAll(records *record.Store, c *record.Container, sig unix.Signal, choose func(Process) bool) (found int, err error) {
	list, err := List(records, c)
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
	if list, err = List(records, c); err != nil {
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
