package monitor

import (
	"os"
	"sync"
	"time"

	"github.com/skiff-containers/skiff/run/cgroup"
)

// oomWatch tells of processes of a life that the kernel kills for want of memory, as it does so; the end of the life tells of those that it has missed.
type oomWatch struct {
	events *os.File      // nil without a watch
	over   chan struct{} // closed with it
	ended  sync.WaitGroup
	told   int64 // kills that were told of in this life
}

// oomDelay is how long the kernel may take from saying that memory has run out to having killed a process, as v1 does it.
const oomDelay = time.Second

// watchOOM begins to watch the container's group, if memory has a limit there. Where the kernel cannot tell, the end of the life does.
func (m *monitor) watchOOM() {
	m.mu.Lock()
	g := m.group
	m.mu.Unlock()
	events, err := g.OOMEvents()
	if err != nil || events == nil {
		return
	}
	w := &m.oom
	w.events, w.over = events, make(chan struct{})
	w.ended.Go(func() {
		buf := make([]byte, 4096) // of an eventfd eight bytes, of inotify some events
		for {
			if _, err := events.Read(buf); err != nil {
				return // closed
			}
			for began := time.Now(); !m.tellOOM(g) && time.Since(began) < oomDelay; {
				select {
				case <-w.over:
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
	})
}

// tellOOM tells of kills that nobody was told of yet, and says whether there were any.
func (m *monitor) tellOOM(g *cgroup.Group) bool {
	n := g.OOMKills()
	if n <= m.oom.told {
		return false
	}
	m.oom.told = n
	m.emit("oom", nil)
	return true
}

// endOOM ends the watch, tells of what it has missed, and says whether the kernel has killed anything in this life.
func (m *monitor) endOOM() bool {
	if w := &m.oom; w.events != nil {
		close(w.over)
		w.events.Close()
		w.ended.Wait()
		w.events = nil
	}
	m.mu.Lock()
	g := m.group
	m.mu.Unlock()
	m.tellOOM(g)
	return m.oom.told > 0
}
