package relay

// Doors: a TUN device, or without /dev/net/tun a packet socket on one end of a veth pair.

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Tun opens a TUN device called name in the network namespace of the calling thread.
func Tun(name string) (Door, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make the TUN device: %w", err)
	}
	return tun{os.NewFile(uintptr(fd), "/dev/net/tun")}, nil
}

type tun struct{ *os.File }

func (t tun) Write(b []byte) error {
	_, err := t.File.Write(b)
	return err
}

// Packet opens a packet socket on an interface (by index) of the calling thread's network namespace, which is blind to what it sends itself (packet(7)). What is sent goes to the
// interface at the other end, whose hardware address is peer.
func Packet(index int, own, peer net.HardwareAddr) (Door, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return nil, fmt.Errorf("cannot open a packet socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot open a packet socket: %w", err)
	}
	return &ethernet{file: os.NewFile(uintptr(fd), "packet socket"), head: append(append([]byte(nil), peer...), own...)}, nil
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

const headerEthernet = 14

// ethernet is a door with frames.
type ethernet struct {
	file *os.File
	head []byte // the addresses of a frame of ours
	in   []byte // the reader's buffer
}

func (e *ethernet) Read(b []byte) (int, error) {
	if len(e.in) < headerEthernet+len(b) {
		e.in = make([]byte, headerEthernet+len(b))
	}
	for {
		n, err := e.file.Read(e.in)
		if errors.Is(err, unix.ENETDOWN) {
			continue // it was down once
		}
		if err != nil {
			return 0, err
		}
		if n >= headerEthernet {
			return copy(b, e.in[headerEthernet:n]), nil
		}
	}
}

func (e *ethernet) Write(b []byte) error {
	kind := []byte{8, 0}
	if len(b) > 0 && b[0]>>4 == 6 {
		kind = []byte{0x86, 0xdd}
	}
	frame := append(append(append(make([]byte, 0, headerEthernet+len(b)), e.head...), kind...), b...)
	_, err := e.file.Write(frame)
	return err
}

func (e *ethernet) Close() error { return e.file.Close() }
