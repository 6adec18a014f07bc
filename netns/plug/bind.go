package plug

// Making the sockets of published ports. The switch does; those that it may not make, since it is in a user namespace that has no say over the host's ports, the front makes that may.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// backlog is more than net.core.somaxconn, which limits it.
const backlog = 1<<16 - 1

// Bind makes the socket of one port in the caller's network namespace, listening when it is TCP's; of a range the first that is free.
func Bind(p Port) (*os.File, error) {
	for last := max(p.HostEnd, p.Host); ; p.Host++ {
		fd, err := bind(p)
		if err == nil {
			return os.NewFile(uintptr(fd), "port"), nil
		}
		if p.Host == last || !errors.Is(err, unix.EADDRINUSE) {
			return nil, unbound(p, err)
		}
	}
}

// bind makes one: without an address it is for IPv4 and IPv6, where the kernel has that; with ::, as with 0.0.0.0, for one of them, so that both can be asked for side by side.
func bind(p Port) (int, error) {
	kind := unix.SOCK_STREAM
	switch p.Protocol {
	case "tcp":
	case "udp":
		kind = unix.SOCK_DGRAM
	default:
		return -1, errors.New("its protocol is neither tcp nor udp")
	}
	ip := p.IP.Unmap()
	if ip.Is4() {
		return bound(unix.AF_INET, kind, &unix.SockaddrInet4{Port: int(p.Host), Addr: ip.As4()}, 0)
	}
	at := &unix.SockaddrInet6{Port: int(p.Host)}
	if ip.IsValid() {
		at.Addr = ip.As16()
		if zone := ip.Zone(); zone != "" {
			on, err := net.InterfaceByName(zone)
			if err != nil {
				return -1, err
			}
			at.ZoneId = uint32(on.Index)
		}
	}
	only := 0
	if ip.IsValid() {
		only = 1
	}
	fd, err := bound(unix.AF_INET6, kind, at, only)
	if errors.Is(err, unix.EAFNOSUPPORT) && !ip.IsValid() {
		return bound(unix.AF_INET, kind, &unix.SockaddrInet4{Port: int(p.Host)}, 0)
	}
	return fd, err
}

// bound makes a socket at an address; only6 is IPV6_V6ONLY (ipv6(7)).
func bound(family, kind int, at unix.Sockaddr, only6 int) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only6)
	}
	if err == nil && kind == unix.SOCK_STREAM { // connections of a listener before may linger
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Title names a port in errors.
func (p Port) Title() string {
	if p.IP.IsValid() {
		return fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.IP, p.Host), p.Protocol)
	}
	return fmt.Sprintf("%d/%s", p.Host, p.Protocol)
}

// unbound says why a port of the host cannot be had.
func unbound(p Port, err error) error {
	what := "cannot publish port " + p.Title()
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return &Refusal{Text: what + ": it is in use on the host", Hint: "choose another one, or end what listens on it (`ss -lnp`)", cause: err}
	case errors.Is(err, unix.EACCES):
		return &Refusal{Text: what + ": ports below 1024 are for root", Hint: fmt.Sprintf("publish a higher one, or let users have it: `sudo sysctl net.ipv4.ip_unprivileged_port_start=%d`", p.Host), cause: err}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return &Refusal{Text: what + ": the host does not have that address", Hint: "see `ip address`", cause: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Resume has the socket of a port listen again that was paused. UDP knows no such thing.
func Resume(p Port, socket *os.File) error {
	if p.Protocol != "tcp" {
		return nil
	}
	if err := control(socket, func(fd int) error { return unix.Listen(fd, backlog) }); err != nil {
		return unbound(p, err)
	}
	return nil
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = do(int(fd)) }), err)
}
