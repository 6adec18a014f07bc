package netns

// MAC addresses. Those that follow from an IP address are unique as that one is; one that was asked for (--mac-address) has a link m-<address> -> <container's 16 digits> beside
// the links of IP addresses (allocate.go), which counts as those do.

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/skiff-containers/skiff/storage/disk"
)

func (s *Store) macLink(network, mac string) string {
	return filepath.Join(s.addressDir(network), "m-"+mac)
}

// checkMAC says whether an address that was asked for is free: no container has it, and the bridge has another one.
func (s *Store) checkMAC(n *Network, mac string) error {
	if mac == n.GatewayMAC().String() {
		return fmt.Errorf("%w: MAC address %s is the gateway's", ErrAddressInUse, mac)
	}
	others, err := s.endpoints(n)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.MAC == mac {
			return fmt.Errorf("%w: MAC address %s is that of container %s", ErrAddressInUse, mac, o.Name)
		}
	}
	return nil
}

// noteMAC makes the link of an address that was asked for and is free.
func (s *Store) noteMAC(network string, e *Endpoint) error {
	link := s.macLink(network, e.MAC)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) { // of somebody who is no more
		return err
	}
	return os.Symlink(short(e.Container), link)
}

// chooseMAC makes an address that no other container asked for: mostly the one that follows from the IP address.
func (s *Store) chooseMAC(network string, e *Endpoint) string {
	mac := macOf(e)
	for s.macAsked(network, mac) {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		mac = net.HardwareAddr{0x06, 0x42, b[0], b[1], b[2], b[3]}.String()
	}
	return mac
}

// macAsked says whether somebody alive asked for an address.
func (s *Store) macAsked(network, mac string) bool {
	container, err := os.Readlink(s.macLink(network, mac))
	if err != nil {
		return false
	}
	e, err := s.load1(filepath.Join(s.addressDir(network), container+suffix))
	if err != nil || e.MAC != mac {
		return false // its maker did not come to the end
	}
	alive, err := disk.Locked(e.Alive)
	return err != nil || alive
}

// GatewayMAC is the bridge's own address. A bridge without one has the lowest of its ports, and changes it when that port goes: the other containers would send to
// nobody until they ask anew.
func (n *Network) GatewayMAC() net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	if sub, ok := n.Subnet4(); ok {
		copy(mac[2:], sub.Gateway.AsSlice())
	} else if sub, ok := n.Subnet6(); ok {
		copy(mac[2:], sub.Gateway.AsSlice()[12:])
	}
	return mac
}

// macOf makes a MAC address of an IP address, as Docker does: unique on the network, and the same when the address is given again, so that no neighbour's table is wrong.
func macOf(e *Endpoint) string {
	b := []byte{0x02, 0x42, 0, 0, 0, 0}
	if e.IPv4.IsValid() {
		a := e.IPv4.As4()
		copy(b[2:], a[:])
	} else {
		a := e.IPv6.As16()
		copy(b[2:], a[12:])
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}
