//go:build !switch

package netswitch

// The stack in user mode, in the engine only: it makes a program large.

import (
	"fmt"
	"net"
	"os"

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
	_, far, err := s.pair(err)
	if err != nil {
		return nil, err
	}
	fd := -1
	err = s.do(func() (err error) {
		fd, err = uplink.PacketSocket(far.Attrs().Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the uplink: %w", err)
	}
	return func() (way, error) { return uplink.StartPacket(fd, stackAddress) }, nil
}
