package netns

// What the host's network already takes: its routes and its name servers, read from /proc and resolv.conf, where anybody may.

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Route is a prefix that a new subnet must stay out of.
type Route struct {
	netip.Prefix
	Via string // the host's interface; "" when it is no route but a name server, or another network's subnet
}

// Routes are several.
type Routes []Route

// Overlaps says which of the routes a prefix meets, ok false when none.
func (r Routes) Overlaps(p netip.Prefix) (met Route, ok bool) {
	for _, q := range r {
		if q.Overlaps(p) {
			return q, true
		}
	}
	return Route{}, false
}

// shadow is a subnet that a route of the host's overlaps: the network hides from its containers what is behind the route.
type shadow struct {
	subnet netip.Prefix
	route  Route
}

// shadowed finds the first one.
func shadowed(subnets []Subnet, routes Routes) *shadow {
	for _, s := range subnets {
		for _, r := range routes {
			if r.Via != "" && r.Overlaps(s.Prefix) {
				return &shadow{s.Prefix, r}
			}
		}
	}
	return nil
}

// Warning says what containers of the network do not reach, "" when there is nothing to say. It is known of what Create and Get return.
func (n *Network) Warning() string {
	if n.hides == nil || n.Internal || n.Over() { // containers beside the host's interface reach what is on it
		return ""
	}
	text := fmt.Sprintf("subnet %s of network %s overlaps the host's route %s (interface %s): its containers do not reach what is there", n.hides.subnet, n.Name, n.hides.route.Prefix, n.hides.route.Via)
	if n.Chosen {
		text += "; the network gets another subnet as soon as no container is on it"
	}
	return text
}

// HostRoutes reads the routes and name servers of the network namespace that the caller is in. Default routes, and those to more than a /8, with which a VPN
// replaces one, leave nothing to choose from and do not count. What cannot be read does not count either.
func HostRoutes() Routes {
	var all Routes
	for _, source := range []struct {
		file string
		read func(io.Reader) Routes
	}{{"/proc/net/route", readRoutes4}, {"/proc/net/ipv6_route", readRoutes6}, {"/etc/resolv.conf", readServers}} {
		f, err := os.Open(source.file)
		if err != nil {
			continue // no IPv6, no resolv.conf
		}
		all = append(all, source.read(f)...)
		_ = f.Close() // it was only read
	}
	return all
}

// shortest is the prefix length below which a route says nothing of where networks are.
const shortest = 8

// readRoutes4 reads /proc/net/route: a heading, then interface, destination, gateway, flags, ..., mask (8th), each number in hexadecimal of the machine's order.
func readRoutes4(r io.Reader) (all Routes) {
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 8 || len(f[1]) != 8 || len(f[7]) != 8 {
			continue
		}
		dst, err1 := hex.DecodeString(f[1])
		mask, err2 := hex.DecodeString(f[7])
		if err1 != nil || err2 != nil {
			continue // the heading
		}
		bits := 0
		for i := 3; i >= 0; i-- {
			for b := byte(0x80); b != 0 && mask[i]&b != 0; b >>= 1 {
				bits++
			}
		}
		if bits >= shortest {
			all = append(all, Route{netip.PrefixFrom(netip.AddrFrom4([4]byte{dst[3], dst[2], dst[1], dst[0]}), bits), f[0]})
		}
	}
	return all
}

// readRoutes6 reads /proc/net/ipv6_route: destination, its prefix length, ..., interface (10th), in hexadecimal of the network's order.
func readRoutes6(r io.Reader) (all Routes) {
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 10 || len(f[0]) != 32 {
			continue
		}
		dst, err1 := hex.DecodeString(f[0])
		bits, err2 := strconv.ParseUint(f[1], 16, 8)
		if err1 != nil || err2 != nil || bits < shortest || bits > 128 {
			continue
		}
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(dst)), int(bits))
		if !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() {
			all = append(all, Route{p, f[len(f)-1]})
		}
	}
	return all
}

// readServers reads the name servers of a resolv.conf: one behind a default route is in no route of its own.
func readServers(r io.Reader) (all Routes) {
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			a = a.WithZone("").Unmap()
			all = append(all, Route{netip.PrefixFrom(a, a.BitLen()), ""})
		}
	}
	return all
}
