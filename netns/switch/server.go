package netswitch

// What monitors ask for: one connection per container.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/stage"
)

// guest is a container that is connected.
type guest struct {
	hub       *hub
	container *os.File // its network namespace
	cables    []*cable
	ports     []*publication
	loopback  []netip.Addr
	lent      map[int]*os.File // sockets of ports that are to be published, by their places
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
		err = g.disconnect(r.Network)
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
	if err = g.connect(r.Places); err == nil {
		err = g.hub.space.allowLoopback(r.Loopback, true)
	}
	if err != nil {
		shut(sockets)
		return nil, err
	}
	g.loopback = r.Loopback
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
		g.cables = append(g.cables, c)
	}
	return nil
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
			g.cables = append(g.cables[:i], g.cables[i+1:]...)
			g.hub.unplug(c, g.container)
			return nil
		}
	}
	return errors.New("cannot disconnect: the container is not on that network")
}

// leave takes everything back: the container has ended, or its monitor has.
func (g *guest) leave() {
	g.unpublish()
	for _, f := range g.lent {
		f.Close()
	}
	_ = g.hub.space.allowLoopback(g.loopback, false) // an address less that is not there
	if g.container == nil {
		return
	}
	rest := grave{container: g.container}
	for _, c := range g.cables {
		g.hub.way.Forget(c.place.Endpoint.IPv4)
		g.hub.way.Forget(c.place.Endpoint.IPv6)
		rest.addresses = append(rest.addresses, c.place.Endpoint.IPv4, c.place.Endpoint.IPv6)
		if c.bridge == nil {
			continue
		}
		rest.guards = append(rest.guards, c.port)
		if c.place.Network.OverBridge() {
			rest.stalks = append(rest.stalks, c.port)
		}
		c.bridge.names.use(c.place.Endpoint, nil, nil)
		g.hub.leaveBridge(c.bridge)
	}
	g.hub.die(rest)
}

// address is where the container is reached by published ports: on the network of its default route, else on the first one.
func (g *guest) address(like netip.Addr) netip.Addr {
	var found netip.Addr
	for _, c := range g.cables {
		if c.bridge == nil {
			continue // its network is none of ours
		}
		a := c.place.Endpoint.IPv4
		if like.Is6() && !like.Is4In6() && c.place.Endpoint.IPv6.IsValid() {
			a = c.place.Endpoint.IPv6
		}
		if a.IsValid() && (c.place.Default || !found.IsValid()) {
			found = a
		}
	}
	return found
}

// gateway is of the network that the container has an address from.
func (g *guest) gateway(address netip.Addr) netip.Addr {
	for _, c := range g.cables {
		if c.bridge == nil {
			continue
		}
		if s, ok := c.bridge.network.SubnetOf(address); ok {
			return s.Gateway
		}
	}
	return netip.Addr{}
}

func (g *guest) unpublish() {
	for _, p := range g.ports {
		p.close()
	}
	g.ports = nil
}
