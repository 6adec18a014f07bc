package netswitch

// macvlan: interfaces of containers' own on a parent, which is an interface in the switch's namespace, or one end of a cable to a bridge.

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
)

// mode is the kernel's number for what the option macvlan_mode says.
func mode(n *netns.Network) netlink.MacvlanMode {
	switch n.Mode() {
	case netns.ModePrivate:
		return netlink.MACVLAN_MODE_PRIVATE
	case netns.ModeVEPA:
		return netlink.MACVLAN_MODE_VEPA
	case netns.ModePassthru:
		return netlink.MACVLAN_MODE_PASSTHRU
	}
	return netlink.MACVLAN_MODE_BRIDGE
}

// plugOver gives a container an interface on the parent of a macvlan network.
func (h *hub) plugOver(p plug.Place, container *os.File) (*cable, error) {
	parent, err := h.space.link.LinkByName(p.Network.Parent())
	if err == nil {
		err = h.space.raise(parent)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the parent %s: %w", p.Network.Parent(), err)
	}
	inside, err := handleIn(container)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	if err := removeOld(inside, p.Endpoint.Iface); err != nil {
		return nil, err
	}
	h.exhume(p.Endpoint.IPv4, p.Endpoint.IPv6)
	if err := h.space.child(parent, p, container); err != nil {
		return nil, err
	}
	if err := h.space.dress(&p.Network, p, inside); err != nil {
		return nil, errors.Join(err, removeOld(inside, p.Endpoint.Iface))
	}
	return &cable{place: p}, nil
}

// raise brings up an interface that we are not to be met on: it gets no address, and we answer for none of ours there (the rules drop the rest).
func (s *space) raise(l netlink.Link) error {
	err := s.do(func() error {
		err := sysctl("ipv6/conf/"+l.Attrs().Name+"/disable_ipv6", "1")
		if errors.Is(err, os.ErrNotExist) {
			err = nil // without IPv6
		}
		return errors.Join(err, sysctl("ipv4/conf/"+l.Attrs().Name+"/arp_ignore", "8"))
	})
	if err != nil {
		return err
	}
	return s.link.LinkSetUp(l)
}

// missingParent says that a network's parent is not there.
type missingParent struct {
	refused
	network string
}

// present says whether the parents of all macvlan networks are there, and how they come to be.
func (s *space) present(places []plug.Place) error {
	for _, p := range places {
		if !p.Network.Over() {
			continue
		}
		name := p.Network.Parent()
		_, err := s.link.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return &missingParent{network: p.Network.Name, refused: refused{
				text: fmt.Sprintf("cannot connect to network %s: there is no interface %s in the switch's network namespace", p.Network.Name, name),
				hint: fmt.Sprintf("an administrator gives it to skiff with `sudo ip link set %s netns %d`; it comes back when the last container has ended", name, s.tid),
			}}
		}
		if err != nil {
			return fmt.Errorf("cannot connect to network %s: %w", p.Network.Name, err)
		}
	}
	return nil
}

// child makes a container's interface on a parent.
func (s *space) child(parent netlink.Link, p plug.Place, container *os.File) error {
	hardware, err := net.ParseMAC(p.Endpoint.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr, attrs.Namespace = p.Endpoint.Iface, parent.Attrs().Index, hardware, netlink.NsFd(container.Fd())
	if m := p.Network.MTU(); m != 0 {
		attrs.MTU = m
	}
	if err := s.link.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: mode(&p.Network)}); err != nil {
		return fmt.Errorf("cannot make a macvlan interface on %s: %w", parent.Attrs().Name, err)
	}
	return nil
}

// stalk is the name of the end of a cable that a macvlan interface is on, when the cable's port is this.
func stalk(port string) string { return "m" + port[1:] }

// makeStalk makes a cable from the bridge to ourselves, with a container's macvlan interface on its other end. The port is guarded as any.
func (h *hub) makeStalk(b *bridge, p plug.Place, port string, container *os.File) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = port, b.mtu, b.index
	if err := h.space.link.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: stalk(port), PeerMTU: uint32(b.mtu)}); err != nil {
		return fmt.Errorf("cannot make the cable: %w", err)
	}
	end, err := h.space.link.LinkByName(stalk(port))
	if err == nil {
		err = h.space.raise(end)
	}
	if err == nil {
		err = h.space.child(end, p, container)
	}
	if err != nil {
		return errors.Join(err, h.space.fell(port))
	}
	return nil
}

// fell removes a port with what is at its other end. It may have gone.
func (s *space) fell(port string) error {
	l, err := s.link.LinkByName(port)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = s.link.LinkDel(l)
	}
	return err
}

// removeOld removes a container's interface that a switch before gave it.
func removeOld(inside *netlink.Handle, name string) error {
	old, err := inside.LinkByName(name)
	if err != nil || old.Type() != "veth" && old.Type() != "macvlan" {
		return nil
	}
	if err := inside.LinkDel(old); err != nil {
		return fmt.Errorf("cannot replace %s: %w", name, err)
	}
	return nil
}
