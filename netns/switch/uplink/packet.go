package uplink

// The link without /dev/net/tun: a packet socket on one end of a veth pair, the other end of which is the switch's interface.

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// PacketSocket opens a packet socket on an interface (by index) of the calling thread's network namespace: with headers for segmentation offload, and blind to
// what it sends itself (packet(7)).
func PacketSocket(index int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return -1, fmt.Errorf("cannot open a packet socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1)
		}
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		if err != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20) // as much as the host lets a user have
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot open a packet socket: %w", err)
	}
	return fd, nil
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// StartPacket runs a stack on a packet socket (PacketSocket), which it owns from then on; hardware is the address of the socket's interface,
// peer that of the other end.
func StartPacket(fd int, hardware, peer net.HardwareAddr) (*Uplink, error) {
	end, err := fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: relay.MTU, EthernetHeader: true, Address: tcpip.LinkAddress(hardware), PacketDispatchMode: fdbased.RecvMMsg,
		GSOMaxSize: maxSegment, RXChecksumOffload: true,
	})
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot set up the uplink: %w", err)
	}
	return start(end, tcpip.LinkAddress(peer))
}
