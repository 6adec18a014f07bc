package uplink

// The link: a TUN device of the switch's network namespace, with segmentation offload in both directions.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// vnetHeader is the size of struct virtio_net_hdr, which comes before each packet (linux/virtio_net.h).
const vnetHeader = 10

const (
	vnetNeedsChecksum = 1
	vnetTCP4          = 1
	vnetTCP6          = 4
)

// maxSegment is the largest packet that is handed over in one piece, either way.
const maxSegment = 65475

// Device opens a TUN device called name in the network namespace of the calling thread.
func Device(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make the TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// link is the TUN device as a link of the stack.
type link struct {
	file *os.File
	mtu  uint32

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
	done       chan struct{} // closed when the reader has ended
}

func newLink(file *os.File, mtu uint32) *link {
	return &link{file: file, mtu: mtu, done: make(chan struct{})}
}

// read hands packets to the stack until the device is closed.
func (l *link) read() {
	defer close(l.done)
	buf := make([]byte, vnetHeader+maxSegment+1<<10)
	for {
		n, err := l.file.Read(buf)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return // closed, or the device has gone
		}
		if n <= vnetHeader {
			continue
		}
		var protocol tcpip.NetworkProtocolNumber
		switch buf[vnetHeader] >> 4 {
		case header.IPv4Version:
			protocol = header.IPv4ProtocolNumber
		case header.IPv6Version:
			protocol = header.IPv6ProtocolNumber
		default:
			continue
		}
		l.mu.RLock()
		d := l.dispatcher
		l.mu.RUnlock()
		if d == nil {
			continue
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(buf[vnetHeader:n])})
		p.RXChecksumValidated = true // it never left this machine
		d.DeliverNetworkPacket(protocol, p)
		p.DecRef()
	}
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	sent := 0
	for _, p := range list.AsSlice() {
		if err := l.write(p); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

func (l *link) write(p *stack.PacketBuffer) tcpip.Error {
	var h [vnetHeader]byte
	if g := p.GSOOptions; g.Type != stack.GSONone {
		if g.NeedsCsum {
			h[0] = vnetNeedsChecksum
			binary.NativeEndian.PutUint16(h[6:], g.L3HdrLen)
			binary.NativeEndian.PutUint16(h[8:], g.CsumOffset)
		}
		if p.Data().Size() > int(g.MSS) {
			h[1] = vnetTCP4
			if g.Type == stack.GSOTCPv6 {
				h[1] = vnetTCP6
			}
			binary.NativeEndian.PutUint16(h[2:], uint16(p.HeaderSize()))
			binary.NativeEndian.PutUint16(h[4:], g.MSS)
		}
	}
	slices := p.AsSlices()
	vector := make([]unix.Iovec, 1, len(slices)+1)
	vector[0] = iovec(h[:])
	for _, s := range slices {
		if len(s) > 0 {
			vector = append(vector, iovec(s))
		}
	}
	raw, err := l.file.SyscallConn()
	if err != nil {
		return &tcpip.ErrClosedForSend{}
	}
	var errno unix.Errno
	err = raw.Write(func(fd uintptr) bool {
		_, _, errno = unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vector[0])), uintptr(len(vector)))
		return errno != unix.EAGAIN && errno != unix.EINTR
	})
	switch {
	case err != nil:
		return &tcpip.ErrClosedForSend{}
	case errno == unix.ENOBUFS || errno == unix.ENOMEM:
		return &tcpip.ErrNoBufferSpace{}
	case errno != 0:
		return &tcpip.ErrAborted{}
	}
	return nil
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return maxSegment }

// SupportedGSO implements stack.GSOEndpoint: the kernel cuts what is too long.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// MTU implements stack.NetworkLinkEndpoint, as do the following.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU implements stack.NetworkLinkEndpoint.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength implements stack.NetworkLinkEndpoint.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.NetworkLinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.NetworkLinkEndpoint.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.NetworkLinkEndpoint. CapabilityTXChecksumOffload is left out: with it SYN-ACKs, which carry no GSO options, would leave without a
// checksum.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// Attach implements stack.NetworkLinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	first := l.dispatcher == nil && d != nil
	l.dispatcher = d
	l.mu.Unlock()
	if first {
		go l.read()
	}
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// Wait implements stack.NetworkLinkEndpoint.
func (l *link) Wait() { <-l.done }

// ARPHardwareType implements stack.NetworkLinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.NetworkLinkEndpoint.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.NetworkLinkEndpoint.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.NetworkLinkEndpoint.
func (l *link) Close() { _ = l.file.Close() } // the reader hears of it

// SetOnCloseAction implements stack.NetworkLinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}
