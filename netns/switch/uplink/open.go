package uplink

// What containers have open: so much and no more, and none of it when their address is another one's.

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// Limits: each flow and each connection has a descriptor of the switch's, which all containers share. One container gets half of each. What would begin a further one is dropped.
const (
	maxFlows       = 4096
	maxConnections = 1 << 15
)

// usage counts what is open.
type usage struct{ flows, connections int }

func flows(u *usage) *int       { return &u.flows }
func connections(u *usage) *int { return &u.connections }

// guest is whoever has an address.
type guest struct {
	usage
	tickets map[*ticket]struct{}
}

// ticket is one flow or connection.
type ticket struct {
	uplink *Uplink
	guest  *guest
	kind   func(*usage) *int
	end    func() // ends it before its time
	gone   bool   // its container has gone
}

// enter counts one more of a container's, nil when there may be none; leave must follow.
func (u *Uplink) enter(container tcpip.Address, kind func(*usage) *int) *ticket {
	a, _ := netip.AddrFromSlice(container.AsSlice())
	u.mu.Lock()
	defer u.mu.Unlock()
	g := u.guests[a]
	if g == nil {
		g = &guest{tickets: map[*ticket]struct{}{}}
		u.guests[a] = g
	}
	if limit := *kind(&u.limits); *kind(&u.open) >= limit || *kind(&g.usage) >= limit/2 {
		return nil
	}
	*kind(&u.open)++
	*kind(&g.usage)++
	t := &ticket{uplink: u, guest: g, kind: kind}
	g.tickets[t] = struct{}{}
	return t
}

// until says what ends it when its container goes; false when it has gone already.
func (t *ticket) until(end func()) bool {
	t.uplink.mu.Lock()
	defer t.uplink.mu.Unlock()
	t.end = end
	return !t.gone
}

func (t *ticket) leave() {
	t.uplink.mu.Lock()
	defer t.uplink.mu.Unlock()
	*t.kind(&t.uplink.open)--
	*t.kind(&t.guest.usage)--
	delete(t.guest.tickets, t)
}

// Forget ends what a container that has gone has open: whoever gets its address next is another one.
func (u *Uplink) Forget(container netip.Addr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	g := u.guests[container]
	if g == nil {
		return
	}
	for t := range g.tickets {
		if t.gone = true; t.end != nil {
			go t.end() // its goroutines do the rest; the stack may be in the middle of asking us
		}
	}
	delete(u.guests, container)
}

// limits shares out the descriptors.
func limits() usage {
	n := relay.Descriptors()
	return usage{flows: min(maxFlows, n/4), connections: min(maxConnections, n/2)}
}
