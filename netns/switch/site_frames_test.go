package netswitch

// What a hostile container sends: frames made by hand.

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// frames sends frames from a container.
func (w *site) frames(t *testing.T, list ...[]byte) {
	t.Helper()
	if w.raw == nil {
		w.inside.Do(t, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				w.raw = os.NewFile(uintptr(fd), "frames")
				err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index})
			}
			return err
		})
		t.Cleanup(func() { _ = w.raw.Close() }) // at the end of the test
	}
	for _, f := range list {
		if _, err := w.raw.Write(f); err != nil {
			t.Fatal(err)
		}
	}
}

// frame is one of the container's to its gateway.
func (w *site) frame(to netip.Addr, protocol byte, body []byte, sum int) []byte {
	head := append([]byte{2, 0x42, 10, 77, 0, 1, 2, 0x42, 10, 77, 0, w.four.AsSlice()[3]}, 0x86, 0xdd)
	from, ip := w.six.AsSlice(), make([]byte, 40)
	ip[0], ip[6], ip[7] = 6<<4, protocol, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
	at, length := 8, 16
	if to.Is4() {
		head[12], head[13] = 8, 0
		from, ip, at, length = w.four.AsSlice(), make([]byte, 20), 12, 4
		ip[0], ip[8], ip[9] = 4<<4|5, 64, protocol
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(body)))
	}
	copy(ip[at:], from)
	copy(ip[at+length:], to.AsSlice())
	if to.Is4() {
		binary.BigEndian.PutUint16(ip[10:], ^sum16(ip))
	}
	pseudo := append(append(append([]byte(nil), from...), to.AsSlice()...), 0, protocol, byte(len(body)>>8), byte(len(body)))
	binary.BigEndian.PutUint16(body[sum:], ^sum16(append(pseudo, body...)))
	return append(append(head, ip...), body...)
}

func sum16(b []byte) uint16 {
	n := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		n += uint32(b[len(b)-1]) << 8
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}

// segment is a segment of TCP without payload.
func segment(from, to uint16, sequence, acknowledged uint32, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], sequence)
	binary.BigEndian.PutUint32(b[8:], acknowledged)
	b[12], b[13], b[14] = 5<<4, flags, 255
	return b
}
