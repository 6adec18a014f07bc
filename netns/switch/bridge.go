package netswitch

// Bridges, and the cables from them to containers.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// Names of bridges say what may pass them: the rules go by prefix. A name of an interface has 15 bytes.
const (
	bridgePrefix   = "br-"
	internalPrefix = "bi-"
)

// bridge is one network's.
type bridge struct {
	network netns.Network
	name    string
	index   int
	mtu     int
	names   *names // its name server
	users   int
	large   bool // it carries what its ports do
}

// enterBridge returns a network's bridge, made when it is not there; leaveBridge must follow.
func (h *hub) enterBridge(n netns.Network) (*bridge, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.bridges[n.ID]
	if b != nil && b.users == 0 && !b.network.Alike(&n) {
		b = nil // its subnets have changed
	}
	if b == nil {
		h.clearBridges()
		var err error
		if b, err = h.makeBridge(n); err != nil {
			return nil, fmt.Errorf("cannot make the bridge of network %s: %w", n.Name, err)
		}
		h.bridges[n.ID] = b
	}
	b.users++
	return b, nil
}

func (h *hub) leaveBridge(b *bridge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.users--
}

// clearBridges removes bridges that no container is on. They stay until another one is made: making one takes longer than all the rest of connecting a
// container, and the next one often comes soon. But two may not have the same subnet, and a removed network's may be given again. The hub's lock is held.
func (h *hub) clearBridges() {
	for id, b := range h.bridges {
		if b.users > 0 {
			continue
		}
		delete(h.bridges, id)
		b.names.close()
		if l, err := h.space.link.LinkByIndex(b.index); err == nil {
			_ = h.space.link.LinkDel(l) // one of this name that is left is taken over
		}
	}
}

func (h *hub) makeBridge(n netns.Network) (*bridge, error) {
	b := &bridge{network: n, name: bridgePrefix + n.ID[:11], mtu: n.MTU()}
	if n.Internal {
		b.name = internalPrefix + n.ID[:11]
	}
	if b.mtu == 0 {
		b.mtu = relay.MTU
	}
	link := h.space.link
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.name, b.mtu, n.GatewayMAC()
	if err := link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	l, err := link.LinkByName(b.name)
	if err != nil {
		return nil, err
	}
	b.index = l.Attrs().Index
	if other := n.BridgeName(); other != "" && !slices.Contains(l.Attrs().AltNames, other) {
		if err := link.LinkAddAltName(l, other); err != nil {
			return nil, fmt.Errorf("cannot give it the name %s: %w", other, err)
		}
	}
	for _, s := range n.Subnets {
		if err := address(link, l, netip.PrefixFrom(s.Gateway, s.Prefix.Bits())); err != nil {
			return nil, fmt.Errorf("cannot give it the address %s: %w", s.Gateway, err)
		}
	}
	if err := link.LinkSetUp(l); err != nil {
		return nil, err
	}
	b.names, err = h.serveNames(n)
	return b, err
}

// cable is a veth pair from a bridge to a container.
type cable struct {
	bridge *bridge // nil on a macvlan network over an interface
	place  plug.Place
	port   string // our end's name
	index  int    // of our end
}

// addresses are those that the container has by it on a bridge.
func (c *cable) addresses() []netip.Addr {
	if c.bridge == nil {
		return nil
	}
	return slices.DeleteFunc([]netip.Addr{c.place.Endpoint.IPv4, c.place.Endpoint.IPv6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// plugIn connects a container's network namespace with a bridge: the pair's other end gets the endpoint's interface name, address and routes.
func (h *hub) plugIn(b *bridge, p plug.Place, container *os.File) (*cable, error) {
	inside, err := handleIn(container)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	if err := removeOld(inside, p.Endpoint.Iface); err != nil {
		return nil, err
	}
	h.exhume(p.Endpoint.IPv4, p.Endpoint.IPv6)
	b.names.use(p.Endpoint, p.DNS, p.Hosts, container)
	port := "v" + p.Endpoint.ID[:13]
	if p.Network.OverBridge() {
		err = h.makeStalk(b, p, port, container)
	} else {
		err = h.makePair(b, p, port, container)
	}
	if err != nil {
		return nil, err
	}
	l, err := h.space.link.LinkByName(port)
	if err != nil {
		return nil, fmt.Errorf("cannot make the cable: %w", err)
	}
	c := &cable{bridge: b, place: p, port: port, index: l.Attrs().Index}
	if err := errors.Join(h.enlargeBridge(b), h.dressPort(l, b, p)); err != nil {
		return nil, errors.Join(err, h.space.link.LinkDel(l))
	}
	if err := h.space.dress(&b.network, p, inside); err != nil {
		return nil, errors.Join(err, h.space.link.LinkDel(l))
	}
	h.settle(c.index, b.index)
	introduce(h.space.link, b, p.Endpoint, inside)
	awaitAddress(inside, p.Endpoint.IPv6)
	for _, s := range b.network.Subnets {
		awaitAddress(h.space.link, s.Gateway)
	}
	return c, nil
}

// introduce lets the bridge and a container know each other's hardware addresses, as if they had asked just now: questions of IPv6 are not heard by an interface that is up for less than a second or so.
// It is a courtesy: who does not know asks.
func introduce(link *netlink.Handle, b *bridge, e netns.Endpoint, inside *netlink.Handle) {
	own, err := net.ParseMAC(e.MAC)
	if err != nil {
		return
	}
	peer, err := inside.LinkByName(e.Iface)
	if err != nil {
		return
	}
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		s, ok := b.network.SubnetOf(a)
		if !a.IsValid() || !ok {
			continue
		}
		_ = link.NeighSet(&netlink.Neigh{LinkIndex: b.index, State: netlink.NUD_REACHABLE, IP: a.AsSlice(), HardwareAddr: own})
		_ = inside.NeighSet(&netlink.Neigh{LinkIndex: peer.Attrs().Index, State: netlink.NUD_REACHABLE, IP: s.Gateway.AsSlice(), HardwareAddr: b.network.GatewayMAC()})
	}
}

// settle makes interfaces carry at once whose other end has just come up. The kernel does what follows from a carrier by itself, but for most interfaces once a second: until then a bridge sends nothing,
// and a container's first connection waits for its second try. Being asked about an interface it does it first (Linux 6.8; before, it takes its time).
func (h *hub) settle(indices ...int) {
	for _, i := range indices {
		_, _ = h.space.link.LinkByIndex(i) // to have asked is all
	}
}

// enlarge lets an interface carry pieces of a stream of IPv4 of more than 64 KB at once ("BIG TCP", Linux 6.3). Each piece costs the same way through the bridge and
// its rules, whatever its size, and nothing of it ever goes over a wire. Where one leaves for an interface that carries less, the kernel cuts it. Those of IPv6 have another header to say their length: a
// router with a smaller MTU behind a container counts it in and takes pieces that fit for too large, and a capture of "tcp port 80" does not see them.
func (s *space) enlarge(attrs *netlink.LinkAttrs) { attrs.GSOIPv4MaxSize = s.segment }

// enlargeBridge does so to a bridge, which can carry what its first port can.
func (h *hub) enlargeBridge(b *bridge) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.large || h.space.segment == 0 {
		return nil
	}
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: b.index}, LinkType: "bridge"}
	if err := h.space.link.LinkSetGSOIPv4MaxSize(l, int(h.space.segment)); err != nil { // by itself: many kernels take no name with it, even the same one, once the bridge is up
		return fmt.Errorf("cannot set up the bridge of network %s: %w", b.network.Name, err)
	}
	b.large = true
	return nil
}

// makePair makes a cable from the bridge into a container.
func (h *hub) makePair(b *bridge, p plug.Place, port string, container *os.File) error {
	hardware, err := net.ParseMAC(p.Endpoint.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = port, b.mtu, b.index
	h.space.enlarge(&attrs)
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: p.Endpoint.Iface, PeerHardwareAddr: hardware, PeerNamespace: netlink.NsFd(container.Fd())}
	if err := h.space.link.LinkAdd(pair); err != nil {
		return fmt.Errorf("cannot make the cable: %w", err)
	}
	return nil
}

// dressPort configures the bridge's end of a cable.
func (h *hub) dressPort(l netlink.Link, b *bridge, p plug.Place) error {
	if b.network.Isolated() || p.Network.Mode() == netns.ModePrivate {
		if err := h.space.link.LinkSetIsolated(l, true); err != nil {
			return fmt.Errorf("cannot isolate the container from its neighbours: %w", err)
		}
	}
	if err := h.space.guard(l.Attrs().Name, p.Endpoint); err != nil {
		return err
	}
	if err := h.space.link.LinkSetUp(l); err != nil {
		return fmt.Errorf("cannot bring up the cable: %w", err)
	}
	return nil
}

// dress configures the container's interface: its addresses are of the network n, which is p's own or its parent.
func (s *space) dress(n *netns.Network, p plug.Place, inside *netlink.Handle) error {
	e := p.Endpoint
	peer, err := inside.LinkByName(e.Iface)
	if err != nil {
		return fmt.Errorf("cannot find %s in the container: %w", e.Iface, err)
	}
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if subnet, ok := n.SubnetOf(a); a.IsValid() && ok {
			if err := address(inside, peer, netip.PrefixFrom(a, subnet.Prefix.Bits())); err != nil {
				return fmt.Errorf("cannot give the container the address %s: %w", a, err)
			}
		}
	}
	// The guard lets no other link-local address out than the one of this mode. Without IPv6 there is none to choose.
	err = inside.LinkSetIP6AddrGenMode(peer, nl.IN6_ADDR_GEN_MODE_EUI64)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("cannot set up %s in the container: %w", e.Iface, err)
	}
	up := netlink.NewLinkAttrs()
	up.Index, up.Name, up.Flags = peer.Attrs().Index, e.Iface, net.FlagUp
	if peer.Type() == "veth" {
		s.enlarge(&up)
	}
	if err := inside.LinkModify(&netlink.GenericLink{LinkAttrs: up, LinkType: peer.Type()}); err != nil {
		return fmt.Errorf("cannot bring up %s in the container: %w", e.Iface, err)
	}
	return lead(n, p, inside, peer)
}

// lead makes the gateways of a container's place, whose interface is peer, the default routes, if that is what they are to be.
func lead(n *netns.Network, p plug.Place, inside *netlink.Handle, peer netlink.Link) error {
	if n.Internal {
		return nil
	}
	for _, a := range []netip.Addr{p.Endpoint.IPv4, p.Endpoint.IPv6} {
		subnet, ok := n.SubnetOf(a)
		if !a.IsValid() || !ok || a.Is4() && !p.Default || a.Is6() && !p.Default6 {
			continue
		}
		r := &netlink.Route{LinkIndex: peer.Attrs().Index, Gw: subnet.Gateway.AsSlice(), Dst: everything(a)}
		if err := inside.RouteReplace(r); err != nil {
			return fmt.Errorf("cannot set the container's default route: %w", err)
		}
	}
	return nil
}

// unplug removes a cable. One whose container has gone went with it.
func (h *hub) unplug(c *cable, container *os.File) {
	if c.bridge == nil {
		if inside, err := handleIn(container); err == nil {
			_ = removeOld(inside, c.place.Endpoint.Iface) // it goes with the container at the latest
			inside.Close()
		}
		return
	}
	if l, err := h.space.link.LinkByIndex(c.index); err == nil {
		h.space.unguard(c.port)
		_ = h.space.link.LinkDel(l) // it may be going by itself
	}
	c.bridge.names.use(c.place.Endpoint, nil, nil, nil)
	h.leaveBridge(c.bridge)
}
