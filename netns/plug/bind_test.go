package plug

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// at is where a socket is.
func at(t *testing.T, f *os.File) netip.AddrPort {
	t.Helper()
	var name unix.Sockaddr
	if err := control(f, func(fd int) (err error) { name, err = unix.Getsockname(fd); return err }); err != nil {
		t.Fatal(err)
	}
	if v4, ok := name.(*unix.SockaddrInet4); ok {
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
	}
	v6 := name.(*unix.SockaddrInet6)
	return netip.AddrPortFrom(netip.AddrFrom16(v6.Addr), uint16(v6.Port))
}

func take(t *testing.T, p Port) *os.File {
	t.Helper()
	f, err := Bind(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestBind(t *testing.T) {
	for _, tt := range []struct{ ip, at string }{
		{"", "::"},
		{"0.0.0.0", "0.0.0.0"},
		{"::", "::"},
		{"127.0.0.1", "127.0.0.1"},
		{"::ffff:127.0.0.1", "127.0.0.1"},
		{"::1", "::1"},
	} {
		for _, protocol := range []string{"tcp", "udp"} {
			t.Run(tt.ip+"/"+protocol, func(t *testing.T) {
				p := Port{Container: 80, Protocol: protocol}
				if tt.ip != "" {
					p.IP = netip.MustParseAddr(tt.ip)
				}
				f := take(t, p)
				got := at(t, f)
				if got.Addr().String() != tt.at || got.Port() == 0 {
					t.Errorf("it is at %s", got)
				}
				if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("programs inherit it: %v", err)
				}
				p.Host = got.Port()
				if _, err := Bind(p); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprintf("%s: it is in use on the host", p.Title())) {
					t.Errorf("the same once more: %v", err)
				}
				// One without an address is for all of both kinds, one with :: leaves those of IPv4 to others.
				if p.IP = netip.IPv4Unspecified(); tt.at == "::" {
					other, err := Bind(p)
					if err == nil {
						other.Close()
					}
					if both := tt.ip == ""; both != errors.Is(err, unix.EADDRINUSE) || !both && err != nil {
						t.Errorf("0.0.0.0: %v", err)
					}
				}
			})
		}
	}
}

func TestBindRange(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	for _, protocol := range []string{"tcp", "udp"} {
		first := at(t, take(t, Port{IP: local, Protocol: protocol})).Port()
		p := Port{IP: local, Host: first, HostEnd: first + 50, Protocol: protocol}
		if got := at(t, take(t, p)).Port(); got <= first || got > p.HostEnd {
			t.Errorf("%s: of %d to %d it is %d", protocol, first, p.HostEnd, got)
		}
	}
}

func TestBindRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		port Port
		want string
	}{
		{"low", Port{Host: 1, Protocol: "tcp"}, "cannot publish port 1/tcp: ports below 1024 are for root"},
		{"low, UDP", Port{Host: 1, Protocol: "udp"}, "cannot publish port 1/udp: ports below 1024 are for root"},
		{"a low range", Port{Host: 1, HostEnd: 5, Protocol: "tcp"}, "cannot publish port 1/tcp: ports below 1024 are for root"},
		{"nobody's address", Port{IP: netip.MustParseAddr("192.0.2.1"), Host: 8080, Protocol: "tcp"}, "cannot publish port 192.0.2.1:8080/tcp: the host does not have that address"},
		{"a zone that is not there", Port{IP: netip.MustParseAddr("fe80::1%nowhere"), Host: 8080, Protocol: "tcp"}, "no such network interface"},
		{"another protocol", Port{Host: 8080, Protocol: "sctp"}, "cannot publish port 8080/sctp: its protocol is neither tcp nor udp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Bind(tt.port); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
