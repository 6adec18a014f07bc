package netswitch

// The way out: the relay, and for kernels that it cannot be had from, the stack.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// packetName is the other end of the uplink's interface without /dev/net/tun.
const packetName = "up1"

// way carries what containers and the world say to each other.
type way interface {
	// DialUDP makes a connection with a container that has from, any address, as its own.
	DialUDP(from, to netip.AddrPort) (net.Conn, error)
	// Forget ends what a container has open by an address that it has no more.
	Forget(address netip.Addr)
}

// open makes the way out. The relay needs the expressions socket and tproxy of nf_tables (Linux 4.19, modules nft_socket and nft_tproxy); without them, or when plug.UplinkVariable says so, it is the
// stack in user mode, which is slower.
func (s *space) open() (w way, kernel *relay.Relay, err error) {
	if os.Getenv(plug.UplinkVariable) != plug.UplinkStack {
		r, err := relay.Start(s.do, s.steer)
		if err == nil {
			if err = s.rules(r.Ports()); err == nil {
				return r, r, s.serve(r)
			}
			err = errors.Join(err, r.Close())
		}
		if !lacking(err) {
			return nil, nil, err
		}
	}
	w, err = s.stack()
	return w, nil, err
}

// errNoStack says that this program has no stack in it.
var errNoStack = errors.New("the kernel has no socket and tproxy in nf_tables, and this program no stack of its own")

// serve gives a relay its device: a TUN device where users may have one, else a veth pair with a packet socket.
func (s *space) serve(r *relay.Relay) error {
	var door relay.Door
	err := s.do(func() (err error) {
		door, err = relay.Tun(uplinkName)
		return err
	})
	if err != nil {
		if door, err = s.veth(err); err != nil {
			return err
		}
	}
	if err := s.addUplink(); err != nil {
		return errors.Join(err, door.Close())
	}
	r.Serve(door)
	return nil
}

// veth makes the pair; refused is why there is no TUN device.
func (s *space) veth(refused error) (door relay.Door, err error) {
	near, far, err := s.pair(refused)
	if err != nil {
		return nil, err
	}
	// Nobody answers who has the gateway's address: whatever is sent over the interface is for the other end.
	if err = s.link.LinkSetARPOff(near); err == nil {
		err = s.do(func() (err error) {
			door, err = relay.Packet(far.Attrs().Index, far.Attrs().HardwareAddr, near.Attrs().HardwareAddr)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot set up the uplink: %w", err)
	}
	return door, nil
}

// pair makes a veth pair in place of a TUN device, the far end of which is up and nobody's but a packet socket's.
func (s *space) pair(refused error) (near, far netlink.Link, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = uplinkName, relay.MTU
	if err := s.link.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: packetName}); err != nil {
		return nil, nil, errors.Join(refused, fmt.Errorf("cannot do without either: %w", err))
	}
	if near, err = s.link.LinkByName(uplinkName); err == nil {
		far, err = s.link.LinkByName(packetName)
	}
	if err == nil {
		err = s.do(func() error {
			if err := sysctl("ipv6/conf/"+packetName+"/disable_ipv6", "1"); !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		})
	}
	if err == nil {
		// Up before there is a socket: one that is bound to an interface that is down has an error waiting, at which its reader would end.
		err = errors.Join(s.link.LinkSetARPOff(far), s.link.LinkSetMTU(far, relay.MTU), s.link.LinkSetUp(far))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot set up the uplink: %w", err)
	}
	return near, far, nil
}
