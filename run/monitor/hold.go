package monitor

import (
	"errors"
	"sync"

	"github.com/skiff-containers/skiff/run/processes"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

// holds are the clients that want the container paused for as long as they are connected.
type holds struct {
	mu     sync.Mutex
	count  int
	paused bool // by the first of them: one that somebody else has paused stays so
}

// hold serves a client that wants the container paused: until it says that it is done, and gets an answer when the container goes on, or until it is gone, killed
// perhaps. Several at once pause it together.
func (m *monitor) hold(conn *stage.Conn) {
	defer conn.Close()
	c := m.converse(conn, nil)
	err := m.holds.take(m)
	c.reply(answered(err))
	if err != nil {
		return
	}
	var req stage.Request
	files, err := conn.Receive(&req)
	for _, f := range files {
		f.Close()
	}
	resumed := m.holds.drop(m)
	if err == nil {
		c.reply(answered(resumed))
	}
}

func (h *holds) take(m *monitor) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == 0 {
		err := processes.Pause(m.store, m.record)
		if err != nil && !errors.Is(err, processes.ErrPausedAlready) {
			return err
		}
		if h.paused = err == nil; h.paused {
			m.emit("pause", nil)
		}
	}
	h.count++
	return nil
}

func (h *holds) drop(m *monitor) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count--; h.count > 0 || !h.paused {
		return nil
	}
	if st, err := m.store.Status(m.record.ID); err != nil || st.State != record.Paused {
		return nil // it has ended, or somebody was faster
	}
	err := processes.Unpause(m.store, m.record)
	if err == nil {
		m.emit("unpause", nil)
	}
	return err
}
