package run

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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
