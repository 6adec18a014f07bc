package tests

// What a container with raw sockets can do to its neighbours on a bridge: frames that say it has their addresses, in all the wrappings that a receiver takes off.

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// forger sends forged frames from an interface.
type forger struct {
	fd      int
	index   int
	mac     []byte
	victim4 netip.Addr
	victim6 netip.Addr // any of its addresses of IPv6
}

var (
	everybody = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// attackNeighbours claims the addresses of a victim in every way, for a second: args are the interface, the victim's IPv4 and an IPv6 address of its.
func attackNeighbours(args []string) int {
	iface, err := net.InterfaceByName(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	f := &forger{fd, iface.Index, iface.HardwareAddr, netip.MustParseAddr(args[1]), netip.MustParseAddr(args[2])}
	sent := 0
	for begin := time.Now(); time.Since(begin) < time.Second; time.Sleep(20 * time.Millisecond) {
		for _, frame := range f.forged() {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: f.index, Halen: 6}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			sent++
		}
	}
	fmt.Println("sent", sent)
	return 0
}

// forged are the frames of one round.
func (f *forger) forged() [][]byte {
	arp := f.arp()
	advertised := f.neighbour(136, f.victim6, 0)
	wrapped := f.neighbour(136, f.victim6, 60) // behind destination options
	unowned := f.neighbour(136, f.ownLinkLocal(), 0)
	claimed := f.neighbour(135, netip.IPv6Unspecified(), 0)
	other := append([]byte{0x02, 0x42, 0, 0, 0xbe, 0xef}, f.mac[6:]...)
	return [][]byte{
		f.frame(f.mac, nil, unix.ETH_P_ARP, arp),
		f.frame(f.mac, []uint16{unix.ETH_P_8021Q}, unix.ETH_P_ARP, arp),
		f.frame(f.mac, []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021Q}, unix.ETH_P_ARP, arp),
		f.frame(f.mac, []uint16{unix.ETH_P_8021AD, unix.ETH_P_8021Q}, unix.ETH_P_ARP, arp),
		f.frame(other, nil, unix.ETH_P_ARP, arp),
		f.frame(f.mac, nil, unix.ETH_P_IPV6, advertised),
		f.frame(f.mac, nil, unix.ETH_P_IPV6, wrapped),
		f.frame(f.mac, nil, unix.ETH_P_IPV6, unowned),
		f.frame(f.mac, nil, unix.ETH_P_IPV6, claimed),
		f.frame(f.mac, []uint16{unix.ETH_P_8021Q}, unix.ETH_P_IPV6, advertised),
		f.frame(f.mac, []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021Q}, unix.ETH_P_IPV6, advertised),
		f.frame(f.mac, []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021Q}, unix.ETH_P_IPV6, unowned),
		f.frame(f.mac, []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021Q}, unix.ETH_P_IPV6, claimed),
	}
}

// ownLinkLocal is the address that the interface may speak with.
func (f *forger) ownLinkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: f.mac[0] ^ 2, 9: f.mac[1], 10: f.mac[2], 11: 0xff, 12: 0xfe, 13: f.mac[3], 14: f.mac[4], 15: f.mac[5]})
}

// frame puts tags (of VLAN 0, which receivers take for none) and an Ethernet header before a packet.
func (f *forger) frame(from []byte, tags []uint16, kind uint16, packet []byte) []byte {
	b := append(append([]byte{}, everybody...), from...)
	if kind == unix.ETH_P_IPV6 {
		copy(b, []byte{0x33, 0x33, 0, 0, 0, 1})
	}
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, t), 0)
	}
	return append(binary.BigEndian.AppendUint16(b, kind), packet...)
}

// arp is an answer that nobody asked for: the victim's address is at our hardware address.
func (f *forger) arp() []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	b = append(append(b, f.mac...), f.victim4.AsSlice()...)
	return append(append(b, everybody...), f.victim4.AsSlice()...)
}

// neighbour is an advertisement (136) that the victim's address is ours, or the question (135) whether it is free, as one asks who is about to take it.
func (f *forger) neighbour(kind byte, source netip.Addr, extension byte) []byte {
	target := f.victim6.AsSlice()
	icmp := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target...)
	to := allNodes
	if kind == 136 {
		icmp[4] = 0x20 // override
		icmp = append(append(icmp, 2, 1), f.mac...)
	}
	sum := uint32(0)
	for _, part := range [][]byte{source.AsSlice(), to.AsSlice(), {0, 0, 0, byte(len(icmp)), 0, 0, 0, 58}, icmp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	next := byte(58)
	if extension != 0 {
		icmp = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, icmp...)
		next = extension
	}
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(icmp)))
	b = append(append(append(b, next, 255), source.AsSlice()...), to.AsSlice()...)
	return append(b, icmp...)
}

// attackDatagrams says a word to a UDP address, three times, or prints what is heard at one until "end" is.
func attackDatagrams(what string, args []string) int {
	var err error
	if what == "say" {
		var c net.Conn
		if c, err = net.Dial("udp", args[0]); err == nil {
			for range 3 {
				_, err = c.Write([]byte(args[1]))
				time.Sleep(20 * time.Millisecond)
			}
		}
	} else {
		var c net.PacketConn
		c, err = net.ListenPacket("udp", args[0])
		buf := make([]byte, 100)
		for n := 0; err == nil && string(buf[:n]) != "end"; {
			if n, _, err = c.ReadFrom(buf); err == nil {
				fmt.Println(string(buf[:n]))
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
