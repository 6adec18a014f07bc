package run

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

// endLeftovers ends what a container's monitor left that was killed: its first process and its control groups. Nothing is done when somebody lives there or is at it already.
func (h *Host) endLeftovers(id string) error {
	h.killLeftovers(id)
	if groups, err := h.Records.Groups(id); err != nil || len(groups) == 0 {
		return err
	}
	lock, err := h.Records.ClaimVisit(id)
	if errors.Is(err, disk.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(endGroups(h.Records, id), lock.Unlock())
}

// endGroups ends the control groups that were noted of a container. The caller holds its lock, or it is no more.
func endGroups(records *record.Store, id string) error {
	groups, err := records.Groups(id)
	if err != nil || len(groups) == 0 {
		return err
	}
	if err := cgroup.End(groups); err != nil {
		return err
	}
	return records.ForgetGroups(id)
}

// killLeftovers ends the first process of a container whose monitor was killed, should it have survived. The pid is trusted only if the process is as old
// as the record says and its parent is gone.
func (h *Host) killLeftovers(id string) {
	st, err := h.Records.Status(id)
	if err != nil || st.State != record.Lost || st.Started == nil || st.Started.Pid <= 1 {
		return
	}
	boot := h.Records.Run
	if len(boot) < 8 || boot[len(boot)-8:] != st.Started.Boot {
		return
	}
	killIfOurs(st.Started.Pid, st.Started.Up)
}

// killIfOurs ends process pid if it began shortly before the machine was up for so long: the first process of a container. A pidfd is taken first, so that what is
// looked at is what is killed, and its end is waited for: it has the container's files open.
func killIfOurs(pid int, up time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64) // field 22 of proc_pid_stat(5): since boot, in 1/100 s
	if err != nil {
		return
	}
	if d := up - time.Duration(ticks)*10*time.Millisecond; d < -time.Second || d > 30*time.Second {
		return
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil { // else EPERM, ESRCH: not ours, or gone
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000) // longer takes only what the kernel does not let go
	}
}
