package relay

import (
	"net/netip"

	"github.com/skiff-containers/skiff/netns"
)

// MTU is the uplink's and, where nobody says otherwise, the bridges': large, since nothing is ever sent over a wire as it is.
const MTU = 65520

// The addresses of the uplink's link. They are from ranges that no host routes (RFC 2544, RFC 4193), and seen by nobody but the switch's namespace.
var (
	Gateway4 = netip.MustParseAddr(netns.HostGateway) // the far side; for containers that may, the host's loopback
	Local4   = netip.MustParsePrefix("198.18.255.2/30")
	Gateway6 = netip.MustParseAddr("fd5c:1f00::1")
	Local6   = netip.MustParsePrefix("fd5c:1f00::2/64")
)

// Target is where what a container sends to an address is sent from the host; ok false refuses it. The host's loopback is reached by the gateway's address alone, which the switch lets only those
// containers send to that were given it.
func Target(to netip.AddrPort) (at netip.AddrPort, ok bool) {
	a := to.Addr()
	switch {
	case a.Is4In6(): // an address of IPv4 that the filter has not seen as such
		return netip.AddrPort{}, false
	case a == Gateway4:
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a == Gateway6:
		a = netip.IPv6Loopback()
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, to.Port()), true
}
