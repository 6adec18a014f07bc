package netswitch

// What ended containers leave is buried together. The kernel takes milliseconds under its one lock for network devices to take a namespace apart, however many there
// are at once, and whoever starts a container meanwhile waits for it.

import (
	"net/netip"
	"os"
	"slices"
	"time"
)

const (
	burialPause = 300 * time.Millisecond // after the last death
	maxGraves   = 64
)

// grave is what is left of a container: its namespace, which our descriptor keeps from being taken apart, with its cables in it.
type grave struct {
	container *os.File
	guards    []string // bridge ports
	stalks    []string // those of them whose other end is not in it
	addresses []netip.Addr
}

// die hands over what is left of a container.
func (h *hub) die(g grave) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.graves = append(h.graves, g)
	if len(h.graves) >= maxGraves {
		go h.bury()
		return
	}
	if h.burial == nil {
		h.burial = time.AfterFunc(burialPause, h.bury)
	} else {
		h.burial.Reset(burialPause)
	}
}

// bury takes all apart.
func (h *hub) bury() {
	h.mu.Lock()
	graves := h.graves
	h.graves = nil
	h.mu.Unlock()
	if len(graves) == 0 {
		return
	}
	var guards []string
	for _, g := range graves {
		guards = append(guards, g.guards...)
		g.container.Close()
		for _, port := range g.stalks {
			_ = h.space.fell(port) // a port more that nobody is on
		}
	}
	h.space.unguard(guards...)
}

// exhume makes sure that no dead container answers for an address that a new one gets.
func (h *hub) exhume(addresses ...netip.Addr) {
	h.mu.Lock()
	clash := slices.ContainsFunc(h.graves, func(g grave) bool {
		return slices.ContainsFunc(g.addresses, func(a netip.Addr) bool { return a.IsValid() && slices.Contains(addresses, a) })
	})
	h.mu.Unlock()
	if clash {
		h.bury()
	}
}
