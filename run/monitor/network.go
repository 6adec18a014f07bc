package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

// network is a container's place on networks that the switch serves.
type network struct {
	store   *netns.Store
	options plug.Options
	request plug.Request
	found   chan error // the switch was found, or started; received once
	space   *os.File   // the container's network namespace
	sockets *plug.Sockets

	asked []plug.Port // those to be published, of which any is not chosen yet

	front *front // nil when there is none

	mu sync.Mutex // the places, and which cable it is, once the container runs

	ending sync.Mutex // the end waits for nobody who has mu
	cable  *plug.Cable
	ended  bool
}

// openNetwork takes the container's addresses, and finds or starts the switch meanwhile. Nil without networks.
func (m *monitor) openNetwork(img *image.Image) (*network, error) {
	c := &m.record.Config
	if !c.Bridged() {
		return nil, nil
	}
	if m.sockets == nil {
		m.sockets = &plug.Sockets{}
	}
	n := &network{
		store:   netns.Open(m.store.Data, m.store.Run),
		options: plug.Options{Data: m.store.Data, Run: m.store.Run, Engine: m.engine, Space: m.space, Sockets: m.sockets},
		found:   make(chan error, 1),
		sockets: m.sockets,
	}
	go func() { n.found <- n.dial() }()
	n.request = plug.Request{Container: m.record.ID}
	places := c.Places
	if len(places) == 0 {
		places = []config.Place{{Network: netns.Bridge}}
	}
	for i, p := range places {
		place, err := m.take(n.store, p, i)
		if err != nil {
			return n, err
		}
		n.request.Places = append(n.request.Places, place)
	}
	chooseDefaults(n.request.Places)
	list, err := ports(allPorts(c, img))
	if err != nil {
		return n, err
	}
	for i := range list {
		if binding := n.binding(); !list[i].IP.IsValid() {
			list[i].IP = binding
		}
	}
	n.asked = plug.Compact(list)
	n.request.Ports = n.asked
	if len(n.asked) > 0 && !n.served() {
		return n, &plug.Refusal{Text: "cannot publish ports: the container is on no bridge network", Hint: "on a macvlan network over an interface its ports are reached at its own address"}
	}
	n.request.Loopback = slices.ContainsFunc(c.AddHost, func(h config.Host) bool { return h.IP == hostGateway })
	return n, nil
}

// binding is the host's address that the network which ports are reached by wants them at, when -p names none (com.docker.network.bridge.host_binding_ipv4); invalid is all.
func (n *network) binding() netip.Addr {
	for _, p := range n.request.Places {
		if p.Default {
			return p.Network.HostBinding()
		}
	}
	return netip.Addr{}
}

// chooseDefaults says whose gateways are the default routes.
func chooseDefaults(places []plug.Place) {
	four, six := defaultPlace(places, hasIPv4), defaultPlace(places, hasIPv6)
	for i := range places {
		places[i].Default, places[i].Default6 = i == four, i == six
	}
}

// defaultPlace is whose gateway is the default route of the family that has knows: of the networks that have a way out that with the highest priority, then the first; -1 when none has the family.
func defaultPlace(places []plug.Place, has func(plug.Place) bool) int {
	best := -1
	for i, p := range places {
		if has(p) && (best < 0 || leadsBefore(p, places[best])) {
			best = i
		}
	}
	return best
}

// leadsBefore says that the way out is by a rather than by b, which was there first.
func leadsBefore(a, b plug.Place) bool {
	if a.Network.Internal != b.Network.Internal {
		return b.Network.Internal
	}
	return a.Endpoint.Priority > b.Endpoint.Priority
}

func hasIPv4(p plug.Place) bool { return p.Endpoint.IPv4.IsValid() }
func hasIPv6(p plug.Place) bool { return p.Endpoint.IPv6.IsValid() }

// take gets the container its place on one network; i counts its interfaces.
func (m *monitor) take(store *netns.Store, p config.Place, i int) (plug.Place, error) {
	var place plug.Place
	n, err := store.Get(p.Network)
	if err != nil {
		return place, err
	}
	e := netns.Endpoint{
		Container: m.record.ID, Name: m.record.Name, Aliases: p.Aliases, MAC: p.MAC, Priority: p.Priority, Iface: n.InterfacePrefix() + strconv.Itoa(i),
		Alive: filepath.Join(m.store.RunDir(m.record.ID), record.AliveFile), Links: map[string]string{},
	}
	if m.record.Config.UTS != "host" { // whose name it has then
		e.Hostname = m.record.Config.Hostname
	}
	for _, v := range []struct {
		text string
		to   *netip.Addr
	}{{p.IPv4, &e.IPv4}, {p.IPv6, &e.IPv6}} {
		if v.text != "" {
			if *v.to, err = netip.ParseAddr(v.text); err != nil {
				return place, fmt.Errorf("cannot use address %q: %w", v.text, err)
			}
		}
	}
	for _, l := range p.Links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		other, err := m.store.Find(name)
		if err != nil {
			return place, fmt.Errorf("cannot link: %w", err)
		}
		if there, err := store.Endpoint(n, other.ID); !n.User() && (err != nil || there == nil) { // no name server will find it later
			return place, errors.Join(fmt.Errorf("cannot link to container %s: it does not run on network %s", other.Name, n.Name), err)
		}
		e.Links[alias] = other.ID
	}
	got, err := store.Attach(n, e)
	if errors.Is(err, netns.ErrNotFound) {
		if n, err = store.Get(p.Network); err == nil { // the default network may have other subnets since
			got, err = store.Attach(n, e)
		}
	}
	if err != nil {
		return place, err
	}
	return plug.Place{Network: *n, Endpoint: *got, DNS: m.record.Config.DNS, Hosts: hostTable(m.record.Config.AddHost)}, nil
}

// connect plugs the container in: pid is its first process, which waits.
func (n *network) connect(pid int) error {
	err := <-n.found
	if err != nil {
		return &plug.Refusal{Text: err.Error(), Hint: "the container runs without it with --network none or --network host"}
	}
	if n.space, err = os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net"); err != nil {
		return fmt.Errorf("cannot connect to the network: %w", err)
	}
	var bound []plug.Port
	err = n.provide(n.front, func() (err error) { bound, err = n.cable.Attach(n.request, n.space); return err })
	for range 5 {
		if !errors.Is(err, plug.ErrGone) {
			break
		}
		// It left as we came, or was killed: there is another one.
		if err = n.provide(n.front, n.again); err == nil {
			return nil
		}
	}
	if err != nil {
		return err
	}
	n.request.Ports = bound
	return nil
}

// dial finds the switch, or starts one.
func (n *network) dial() error {
	cable, err := plug.Connect(n.options)
	if err != nil {
		return err
	}
	n.ending.Lock()
	defer n.ending.Unlock()
	if n.ended {
		return errors.Join(plug.ErrGone, cable.Close())
	}
	n.cable = cable
	return nil
}

// again connects to a new switch as before.
func (n *network) again() error {
	if n.cable != nil {
		n.options.Space = n.cable.Space()
		_ = n.cable.Close() // it is dead
	}
	if err := n.dial(); err != nil {
		return err
	}
	bound, err := n.cable.Attach(n.request, n.space)
	if err == nil {
		n.request.Ports = bound
	}
	return err
}

// watch keeps the container connected until it ends: a switch that was killed is replaced.
func (n *network) watch(ctx context.Context) {
	for {
		n.mu.Lock()
		gone := n.cable.Gone()
		n.mu.Unlock()
		<-gone
		for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
			if ctx.Err() != nil {
				return
			}
			n.mu.Lock()
			err := n.again()
			n.mu.Unlock()
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// keep is the switch's namespace, when a parent of a macvlan network is in it: the next life may have no front to ask for it.
func (n *network) keep(before *os.File) *os.File {
	if n.cable == nil || n.cable.Space() == nil || !slices.ContainsFunc(n.request.Places, func(p plug.Place) bool { return p.Network.Over() }) {
		return before
	}
	return n.cable.Space()
}

// end is the end of the container: the switch has let go of its ports when it returns, and the watch, which has been told, connects it with no other one.
func (n *network) end() *plug.Cable {
	n.ending.Lock()
	defer n.ending.Unlock()
	if !n.ended && n.cable != nil && len(n.asked) > 0 {
		n.cable.Retire()
	}
	n.ended = true
	return n.cable
}

// close disconnects the container and gives its addresses back.
func (n *network) close() error {
	var errs []error
	if cable := n.end(); cable != nil {
		if err := cable.Close(); !errors.Is(err, os.ErrClosed) { // a dead one is closed before there is another
			errs = append(errs, err)
		}
	}
	n.sockets.Pause(n.asked) // whether there is a next life or not: nobody accepts
	if n.space != nil {
		errs = append(errs, n.space.Close())
	}
	for _, p := range n.request.Places {
		errs = append(errs, n.store.Detach(&p.Network, n.request.Container))
	}
	return errors.Join(errs...)
}

// record is what inspect and port show.
func (n *network) record(s *record.Started) {
	recordPorts(s, n.request.Ports)
	for _, p := range n.request.Places {
		e := record.Endpoint{Network: p.Network.Name, NetworkID: p.Network.ID, EndpointID: p.Endpoint.ID, MAC: p.Endpoint.MAC, Aliases: p.Endpoint.Aliases, Names: p.Endpoint.Names()}
		if sub, ok := p.Network.SubnetOf(p.Endpoint.IPv4); ok {
			e.IPv4, e.Gateway4 = netip.PrefixFrom(p.Endpoint.IPv4, sub.Prefix.Bits()).String(), sub.Gateway.String()
		}
		if sub, ok := p.Network.SubnetOf(p.Endpoint.IPv6); ok {
			e.IPv6, e.Gateway6 = netip.PrefixFrom(p.Endpoint.IPv6, sub.Prefix.Bits()).String(), sub.Gateway.String()
		}
		s.Networks = append(s.Networks, e)
	}
}

// warning is what the container does not reach, "" when there is nothing to say.
func (n *network) warning() string {
	if n == nil {
		return ""
	}
	for _, p := range n.request.Places {
		if w := p.Network.Warning(); w != "" {
			return w
		}
	}
	return ""
}
