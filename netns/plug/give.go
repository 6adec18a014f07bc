package plug

// The front's part in macvlan networks, when it is root's: the host's interfaces are not the user namespace's to use. One message of rtnetlink(7), written by hand since the
// front links no netlink library.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
)

// macvlan's modes and attributes (linux/if_link.h).
const (
	macvlanMode    = 1 // IFLA_MACVLAN_MODE
	macvlanPrivate = 1
	macvlanVEPA    = 2
	macvlanBridge  = 4
)

// Give makes a macvlan interface on the host's interface that is n's parent, and puts it into the network namespace space with the parent's name. The caller is in the
// host's network namespace and has CAP_NET_ADMIN there. One that is there already is left.
func Give(n *netns.Network, space *os.File) error {
	failed := func(err error) error {
		return fmt.Errorf("cannot make a macvlan interface on %s of the host: %w", n.Parent(), err)
	}
	parent, err := net.InterfaceByName(n.Parent())
	if err != nil {
		return failed(errors.Unwrap(err))
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, giving(n, parent.Index, int(space.Fd())), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return failed(err)
	}
	buf := make([]byte, 4096)
	got, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return failed(err)
	}
	// The answer is an error message: a header, and the negative error number or 0.
	if got < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return failed(errors.New("the kernel's answer cannot be read"))
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:])))
	if errno != 0 && errno != unix.EEXIST {
		return failed(errno)
	}
	return nil
}

// giving is the message: RTM_NEWLINK with a name, the interface below, the namespace, and the kind with its mode.
func giving(n *netns.Network, parent, space int) []byte {
	mode := uint32(macvlanBridge)
	switch n.Mode() {
	case netns.ModePrivate:
		mode = macvlanPrivate
	case netns.ModeVEPA:
		mode = macvlanVEPA
	}
	data := attribute(unix.IFLA_INFO_KIND, append([]byte("macvlan"), 0))
	data = append(data, attribute(unix.IFLA_INFO_DATA, attribute(macvlanMode, number(mode)))...)
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attribute(unix.IFLA_IFNAME, append([]byte(n.Parent()), 0))...)
	body = append(body, attribute(unix.IFLA_LINK, number(uint32(parent)))...)
	body = append(body, attribute(unix.IFLA_NET_NS_FD, number(uint32(space)))...)
	body = append(body, attribute(unix.IFLA_LINKINFO, data)...)
	head := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	head = binary.NativeEndian.AppendUint16(head, unix.RTM_NEWLINK)
	head = binary.NativeEndian.AppendUint16(head, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	head = append(head, number(1)...) // its number in this conversation
	head = append(head, number(0)...) // from the kernel's point of view: whoever owns the socket
	return append(head, body...)
}

func number(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// attribute is a length, a type and a value, filled up to four bytes.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}
