package monitor

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
)

// A container with a restart policy is started again by the monitor that has seen it end: a new life of the same container, with everything prepared anew. Between
// two lives the exit of the first is on disk and a mark in the runtime directory says "restarting"; a monitor that is killed then leaves an exited container.
//
// So is a --rm container that somebody restarts: its end by any other way would remove it, and its layer is mounted without syncs, so that only who has seen it unmounted
// on a machine that is still up knows that it is whole.

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
	m.mu.Lock()
	asked := len(m.renewal) > 0
	live := err == nil && !m.stopped && (asked || again(c.Config.Restart, exit.Code, m.again))
	m.renews = live && asked
	if m.between = live; !live {
		m.now = nil // nobody asks for another life any more
	}
	m.mu.Unlock()
	if !live {
		return false, false
	}
	errs := []error{m.free(&exit), m.store.SetRestarting(id, true), m.store.WriteExit(id, exit, m.sync)}
	m.emit("die", exitCode(exit.Code))
	if asked {
		m.emit("stop", nil)
		errs = append(errs, layer.Renew(filepath.Join(m.store.Dir(id), record.Layer)))
	}
	m.answer(exit.Code, false)
	if err := errors.Join(errs...); err != nil {
		m.renewed(err)
		return false, true
	}
	if asked {
		m.record, m.life = c, m.life+1
		return true, false
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

// renew notes that somebody has asked for the end of this life and another one, and returns the process that is to end for it: nil when another life is being made
// already, which will do.
func (m *monitor) renew(c *conversation) (*process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped || m.now == nil && !m.renews {
		return nil, m.notRunning()
	}
	m.renewal = append(m.renewal, c)
	if m.renews {
		return nil, nil
	}
	return m.process, nil
}

// renewed tells those who have asked for another life that it has begun, or why it has not.
func (m *monitor) renewed(err error) {
	m.mu.Lock()
	waiting := m.renewal
	m.renewal, m.renews = nil, false
	m.mu.Unlock()
	for _, c := range waiting {
		c.reply(answered(err))
		c.conn.Close()
	}
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
