package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// With a pid namespace of its own the kernel ends all of a container's processes with the first one. Those of a container that shares somebody else's would go
// on: exec'd ones, and whoever lost its parent. The monitor becomes the parent of all of them (prctl(2), PR_SET_CHILD_SUBREAPER) and ends them.

// gather makes this process the one that orphans of the container go to.
func (m *monitor) gather() error {
	if m.record.Config.Pid == "" {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become the parent of the container's orphans: %w", err)
	}
	return nil
}

// endRounds is how often all children are killed until none is left: those of the killed are children then.
const endRounds = 1000

// endGathered kills what is left of the container when its first process has ended. Children in our own mount namespace are helpers of ours.
func (m *monitor) endGathered() {
	if m.record.Config.Pid == "" {
		return
	}
	mine, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return
	}
	for range endRounds {
		left := 0
		for _, pid := range children("self") {
			theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
			if err != nil || theirs == mine { // one that has ended has none
				continue
			}
			left++
			_ = unix.Kill(pid, unix.SIGKILL) // a child of ours that nobody has waited for: the pid is still its own
		}
		if left == 0 {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// children lists a process's children; a thread that ended meanwhile has left its own to another.
func children(process string) (pids []int) {
	tasks, err := filepath.Glob("/proc/" + process + "/task/*/children")
	if err != nil {
		return nil
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
