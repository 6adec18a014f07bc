package monitor

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/record"
)

// A container with a restart policy is started again by the monitor that has seen it end: a new life of the same container, with everything prepared anew. Between
// two lives the exit of the first is on disk and a mark in the runtime directory says "restarting"; a monitor that is killed then leaves an exited container.

// The time before a container is started again: doubled each time, and as at first for one that has run for a while (Docker's figures).
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	goodLife   = 10 * time.Second
)

// again says whether the policy has a container that ended by itself started again.
func again(p config.Restart, code, restarts int) bool {
	switch p.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (p.MaxRetries == 0 || restarts < p.MaxRetries)
	}
	return false
}

// restarts waits for the container's next life when it is to have one, and leaves everything ready for it. False: it has ended; settled says that its end is on disk
// already.
func (m *monitor) restarts(exit record.Exit, ran time.Duration) (yes, settled bool) {
	id := m.record.ID
	c, err := m.store.Load(id) // the policy may have been changed
	if err != nil || m.halted() || !again(c.Config.Restart, exit.Code, m.again) {
		return false, false
	}
	m.mu.Lock()
	m.between = true
	m.mu.Unlock()
	errs := []error{m.free(&exit), m.store.SetRestarting(id, true), m.store.WriteExit(id, exit, m.sync)}
	m.emit("die", exitCode(exit.Code))
	m.answer(exit.Code, false)
	if errors.Join(errs...) != nil {
		return false, true
	}
	if ran >= goodLife || m.pause == 0 {
		m.pause = firstPause
	} else {
		m.pause = min(2*m.pause, lastPause)
	}
	select {
	case <-m.halt:
		m.release()
		return false, true
	case <-time.After(m.pause):
	}
	m.record = c
	m.again++
	m.life++
	return true, false
}

// stopRestarting says that somebody wants the container to end: no policy starts it again.
func (m *monitor) stopRestarting() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopped {
		m.stopped = true
		close(m.halt)
	}
}

func (m *monitor) halted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stopped
}

// ends says whether whoever sends a signal means the container to end: what is sent for other ends (SIGHUP, SIGUSR1) leaves the restart policy in force.
func (m *monitor) ends(sig unix.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
		return true
	}
	own, err := config.ParseSignal(m.record.Config.StopSignal)
	return err == nil && sig == own
}

// life is what requests need of the container as it runs: a next life is made beside it.
type life struct {
	container oci.Container
	spec      *specs.Spec
	filter    []unix.SockFilter
	group     *cgroup.Group
	network   *network
}

// current is the life that the container has now.
func (m *monitor) current() (*life, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.now != nil:
		return m.now, nil
	case m.between:
		return nil, fmt.Errorf("container %s is restarting: wait until it runs", m.record.Name)
	}
	return nil, m.notRunning()
}

// notRunning is the answer to requests that come as the container ends.
func (m *monitor) notRunning() error { return fmt.Errorf("container %s is not running", m.record.Name) }
