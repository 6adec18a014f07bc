//go:build !switch

package netswitch

// The stack in user mode, in the engine only: it makes a program large.

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/skiff-containers/skiff/netns/switch/relay"
	"github.com/skiff-containers/skiff/netns/switch/uplink"
)

// stackAddress is the stack's on a packet socket: what it hears must not be taken for its own words, so the interface's is another.
var stackAddress = net.HardwareAddr{2, 0x73, 0x6b, 0x69, 0x66, 1}

// stack makes the stack and its interface.
func (s *space) stack() (way, error) {
	if err := s.rules(0, 0); err != nil {
		return nil, err
	}
	begin, err := s.makeStack()
	if err == nil {
		err = s.addUplink()
	}
	if err != nil {
		return nil, err
	}
	return begin()
}

// makeStack makes the interface of the stack, and returns what starts it.
func (s *space) makeStack() (begin func() (way, error), err error) {
	var device *os.File
	err = s.do(func() (err error) {
		device, err = uplink.Device(uplinkName)
		return err
	})
	if err == nil {
		return func() (way, error) { return uplink.Start(device) }, nil
	}
	near, far, err := s.pair(err)
	if err != nil {
		return nil, err
	}
	// Neither end asks for the other's address: the kernel's questions of IPv6 go unheard for the first seconds of an interface, and what waits for them is lost.
	for _, gateway := range []netip.Addr{relay.Gateway4, relay.Gateway6} {
		n := &netlink.Neigh{LinkIndex: near.Attrs().Index, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: stackAddress}
		if err := s.link.NeighSet(n); err != nil && gateway.Is4() {
			return nil, fmt.Errorf("cannot set up the uplink: %w", err)
		}
	}
	fd := -1
	err = s.do(func() (err error) {
		fd, err = uplink.PacketSocket(far.Attrs().Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the uplink: %w", err)
	}
	return func() (way, error) { return uplink.StartPacket(fd, stackAddress, near.Attrs().HardwareAddr) }, nil
}
