package netswitch

// What monitors ask for: one connection per container.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/stage"
)

// guest is a container that is connected.
type guest struct {
	hub       *hub
	container *os.File // its network namespace
	ports     []*publication
	loopback  bool             // it may reach the host's
	lent      map[int]*os.File // sockets of ports that are to be published, by their places
	made      []int            // places of those that were made here

	handing sync.Mutex
	retired bool // no more sockets are handed out

	mu     sync.Mutex // whoever comes to a published port asks for the cables meanwhile
	cables []*cable
}

// serve does what is asked on a connection, and takes everything back when it ends.
func (h *hub) serve(_ context.Context, conn *stage.Conn) {
	defer conn.Close()
	g := &guest{hub: h}
	defer g.leave()
	for {
		var r plug.Request
		files, err := conn.Receive(&r)
		if err != nil {
			return
		}
		reply, back := g.answer(r, files)
		if err := conn.Send(reply, back...); err != nil {
			return
		}
		if r.Op == plug.OpAttach && reply.Error == "" && r.Keep > 0 {
			time.AfterFunc(handPause, func() { g.hand(conn, r.Keep) })
		}
	}
}

// answer does one request. The files are ours.
func (g *guest) answer(r plug.Request, files []*os.File) (plug.Reply, []*os.File) {
	var ports []plug.Port
	var err error
	keep := false
	switch r.Op {
	case plug.OpAttach:
		if len(files) == 0 || g.container != nil {
			err = errors.New("cannot connect: no network namespace, or the second one")
			break
		}
		if err = g.hub.space.present(r.Places); err != nil {
			break
		}
		list := plug.Expand(r.Ports)
		var sockets []*os.File
		if sockets, err = g.bind(list); err != nil {
			break
		}
		keep = true
		g.container = files[0]
		ports, err = g.attach(r, list, sockets)
	case plug.OpConnect:
		if err = g.hub.space.present(r.Places); err == nil {
			err = g.connect(r.Places)
		}
	case plug.OpDetach:
		if err = g.disconnect(r.Network); err == nil {
			err = g.lead(r.Default, r.Default6)
		}
	case plug.OpRetire:
		g.retire()
	case plug.OpLend:
		files, err = g.borrow(r.Lent, files)
	default:
		err = fmt.Errorf("cannot do %q here", r.Op)
	}
	for i, f := range files {
		if !keep || i > 0 {
			f.Close()
		}
	}
	if err != nil {
		reply := plug.Reply{Error: err.Error()}
		var hint interface{ HintText() string }
		if errors.As(err, &hint) {
			reply.Hint = hint.HintText()
		}
		var missing *missingParent
		if errors.As(err, &missing) {
			reply.Parent = missing.network
			return reply, []*os.File{g.hub.space.file}
		}
		var no *denied
		if errors.As(err, &no) {
			reply.Denied = no.places
		}
		return reply, nil
	}
	return plug.Reply{Ports: ports}, []*os.File{g.hub.space.file}
}

// attach connects a container with its networks and publishes its ports by their sockets: all or nothing. It takes the sockets.
func (g *guest) attach(r plug.Request, ports []plug.Port, sockets []*os.File) (done []plug.Port, err error) {
	g.loopback = r.Loopback
	if err := g.connect(r.Places); err != nil {
		shut(sockets)
		return nil, err
	}
	for i, p := range ports {
		published, err := g.publish(p, sockets[i])
		if err != nil {
			shut(sockets[i+1:])
			g.unpublish()
			return nil, few(err, i)
		}
		g.ports = append(g.ports, published)
		done = append(done, published.port)
	}
	return plug.Compact(done), nil
}

func (g *guest) connect(places []plug.Place) error {
	if g.container == nil {
		return errors.New("cannot connect: the container is not known")
	}
	for _, p := range places {
		c, err := g.cable(p)
		if err != nil {
			return fmt.Errorf("cannot connect to network %s: %w", p.Network.Name, err)
		}
		g.mu.Lock()
		g.cables = append(g.cables, c)
		g.mu.Unlock()
		if g.loopback {
			if err := g.hub.space.allowLoopback(c.addresses(), true); err != nil {
				return err
			}
		}
	}
	if g.hub.relay != nil {
		var all []netip.Addr
		for _, c := range g.cables {
			all = append(all, c.addresses()...)
		}
		g.hub.relay.Together(all...)
	}
	return nil
}

// part takes from a container's addresses on a network what they gave it: whoever gets them next is another one.
func (g *guest) part(c *cable) {
	for _, a := range c.addresses() {
		if g.loopback {
			_ = g.hub.space.allowLoopback([]netip.Addr{a}, false) // an address less that is not there
		}
		g.hub.way.Forget(a)
	}
}

// cable makes one, as the network's driver has them.
func (g *guest) cable(p plug.Place) (c *cable, err error) {
	if p.Network.Over() {
		return g.hub.plugOver(p, g.container)
	}
	n := &p.Network
	if n.OverBridge() {
		if n, err = g.hub.store.ParentOf(n); err != nil {
			return nil, err
		}
	}
	b, err := g.hub.enterBridge(*n)
	if err != nil {
		return nil, err
	}
	if c, err = g.hub.plugIn(b, p, g.container); err != nil {
		g.hub.leaveBridge(b)
	}
	return c, err
}

func (g *guest) disconnect(network string) error {
	for i, c := range g.cables {
		if c.place.Network.ID == network {
			g.mu.Lock()
			g.cables = slices.Delete(slices.Clone(g.cables), i, i+1)
			g.mu.Unlock()
			g.hub.unplug(c, g.container)
			g.part(c)
			return nil
		}
	}
	return errors.New("cannot disconnect: the container is not on that network")
}

// lead makes the gateways of these networks the default routes of IPv4 and IPv6; "" leaves what there is.
func (g *guest) lead(four, six string) error {
	for _, c := range g.cables {
		is4, is6 := c.place.Network.ID == four, c.place.Network.ID == six
		if !is4 && !is6 {
			continue
		}
		inside, err := handleIn(g.container)
		if err != nil {
			return err
		}
		defer inside.Close()
		g.mu.Lock()
		c.place.Default, c.place.Default6 = c.place.Default || is4, c.place.Default6 || is6
		g.mu.Unlock()
		n := &c.place.Network
		if c.bridge != nil {
			n = &c.bridge.network
		}
		peer, err := inside.LinkByName(c.place.Endpoint.Iface)
		if err != nil {
			return fmt.Errorf("cannot find %s in the container: %w", c.place.Endpoint.Iface, err)
		}
		if err := lead(n, c.place, inside, peer); err != nil {
			return err
		}
	}
	return nil
}

// leave takes everything back: the container has ended, or its monitor has.
func (g *guest) leave() {
	g.retire()
	g.unpublish()
	for _, f := range g.lent {
		f.Close()
	}
	if g.container == nil {
		return
	}
	rest := grave{container: g.container}
	for _, c := range g.cables {
		g.part(c)
		rest.addresses = append(rest.addresses, c.addresses()...)
		if c.bridge == nil {
			continue
		}
		rest.guards = append(rest.guards, c.port)
		if c.place.Network.OverBridge() {
			rest.stalks = append(rest.stalks, c.port)
		}
		c.bridge.names.use(c.place.Endpoint, nil, nil, nil)
		g.hub.leaveBridge(c.bridge)
	}
	g.hub.die(rest)
}

// door is the address where the container is reached by published ports, on the network of its default route, else on the first one, and that network: one of the client's family, if the container has one.
func (g *guest) door(like netip.Addr) (found netip.Addr, network netns.Network) {
	six := like.Is6() && !like.Is4In6()
	g.mu.Lock()
	defer g.mu.Unlock()
	if found, network = g.doorOf(six); !found.IsValid() {
		found, network = g.doorOf(!six)
	}
	return found, network
}

// doorOf is that of one family, invalid when there is none. The guest's lock is held.
func (g *guest) doorOf(six bool) (found netip.Addr, network netns.Network) {
	for _, c := range g.cables {
		if c.bridge == nil {
			continue // its network is none of ours
		}
		a, leads := c.place.Endpoint.IPv4, c.place.Default
		if six {
			a, leads = c.place.Endpoint.IPv6, c.place.Default6
		}
		if a.IsValid() && (leads || !found.IsValid()) {
			found, network = a, c.bridge.network
		}
	}
	return found, network
}

func (g *guest) unpublish() {
	for _, p := range g.ports {
		p.close()
	}
	g.ports = nil
}
