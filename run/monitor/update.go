package monitor

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/stage"
)

// update applies other limits to the running container. The life's end waits meanwhile: it takes the groups away.
func (m *monitor) update(req stage.Request) error {
	if req.Old == nil || req.Limits == nil {
		return errors.New("cannot update: no limits are given")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now == nil {
		return fmt.Errorf("cannot update container %s: it is just ending or starting again", m.record.Name)
	}
	group, err := cgroup.Update(m.group, m.record.ID, m.record.Config.CgroupParent, *req.Old, *req.Limits, m.noteGroup, m.members)
	if group != m.group {
		now := *m.now
		now.group = group
		m.group, m.now = group, &now
	}
	return err
}

// members lists the processes of the container: those that we forked into it, with all that they have forked.
func (m *monitor) members() []int {
	mine, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil
	}
	var all []int
	for _, pid := range children("self") {
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); err == nil && theirs != mine {
			all = append(all, pid)
		}
	}
	for i := 0; i < len(all); i++ {
		all = append(all, children(strconv.Itoa(all[i]))...)
	}
	return all
}
