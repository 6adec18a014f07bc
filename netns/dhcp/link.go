package dhcp

// The interface itself, by rtnetlink(7), in the network namespace that the calling thread is in.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/stage"
)

// move takes the interface over from another network namespace: the one of the container's life before.
func move(name string, space, before *os.File) error {
	there, err := netlink.NewHandleAt(vishnetns.NsHandle(before.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot take interface %s over: %w", name, err)
	}
	defer there.Close()
	link, err := there.LinkByName(name)
	if err == nil {
		err = there.LinkSetNsFd(link, int(space.Fd()))
	}
	if err != nil {
		return fmt.Errorf("cannot take interface %s over: %w", name, err)
	}
	return nil
}

// raise gives the interface its MAC address and size of packets, and sets it up.
func raise(q stage.LeaseQuestion) error {
	link, err := netlink.LinkByName(q.Interface)
	if err != nil {
		return fmt.Errorf("cannot find interface %s: %w", q.Interface, err)
	}
	if mac, err := net.ParseMAC(q.MAC); q.MAC != "" && err == nil {
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("cannot give interface %s the MAC address %s: %w", q.Interface, q.MAC, err)
		}
	}
	if q.MTU != 0 {
		if err := netlink.LinkSetMTU(link, q.MTU); err != nil {
			return fmt.Errorf("cannot set the MTU of interface %s to %d: %w", q.Interface, q.MTU, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot set interface %s up: %w", q.Interface, err)
	}
	return nil
}

// remove deletes the interface, and its other end on the bridge with it.
func remove(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("cannot delete interface %s: %w", name, err)
	}
	return nil
}

// apply gives the interface the address and the default route of a lease in place of the one before, for as long as it holds: the kernel takes an address away whose time is over.
func apply(name string, before, lease *stage.Lease) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find interface %s: %w", name, err)
	}
	if before != nil && before.Address != lease.Address {
		if err := netlink.AddrDel(link, addr(before.Address)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // its time was over
			return fmt.Errorf("cannot take address %s away: %w", before.Address, err)
		}
	}
	a := addr(lease.Address)
	if lease.Length > 0 {
		a.ValidLft = int(max(lease.Length, time.Second) / time.Second)
		a.PreferedLft = a.ValidLft
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return fmt.Errorf("cannot set address %s: %w", lease.Address, err)
	}
	if !lease.Gateway.IsValid() {
		return nil
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index, Gw: lease.Gateway.AsSlice(), Src: lease.Address.Addr().AsSlice(), Scope: netlink.SCOPE_UNIVERSE, Flags: int(netlink.FLAG_ONLINK),
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("cannot set the default route by %s: %w", lease.Gateway, err)
	}
	return nil
}

func addr(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
}

// broadcaster is a socket from whose address datagrams go to all machines on the wire.
func broadcaster(name string, from net.IP) (net.PacketConn, error) {
	on, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	raw, err := packet.Listen(on, packet.Datagram, unix.ETH_P_IP, nil)
	if err != nil {
		return nil, err
	}
	return nclient4.NewBroadcastUDPConn(raw, &net.UDPAddr{IP: from, Port: nclient4.ClientPort}), nil
}
