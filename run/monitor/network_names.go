package monitor

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
)

// By which names a container on networks knows the host and others: its hosts file and its name server.

// hostGateway is the word of --add-host for the host itself; the address behind it is the uplink's (netns/switch/relay), which ends at the host's loopback.
const hostGateway = "host-gateway"

// hostNames are the names by which containers know the host (those of Docker Desktop and of Podman), with the address by which the host itself goes out, where its services are that do not listen on
// loopback alone. Names that the user has given are his. A host without a route has no such address, and no names.
func hostNames(given []config.Host) (names []string, at netip.Addr) {
	if at = hostAddress(); !at.IsValid() {
		return nil, at
	}
	for _, name := range []string{"host.docker.internal", "host.containers.internal"} {
		if !slices.ContainsFunc(given, func(h config.Host) bool { return strings.EqualFold(h.Name, name) }) {
			names = append(names, name)
		}
	}
	return names, at
}

// hostTable is what the name server is to know of a container's /etc/hosts.
func hostTable(given []config.Host) map[string][]netip.Addr {
	table := map[string][]netip.Addr{}
	names, at := hostNames(given)
	for _, name := range names {
		table[name] = []netip.Addr{at}
	}
	for _, h := range given {
		text := h.IP
		if text == hostGateway {
			text = netns.HostGateway
		}
		if a, err := netip.ParseAddr(text); err == nil { // what takes --add-host has said so
			name := strings.ToLower(h.Name)
			table[name] = append(table[name], a.WithZone(""))
		}
	}
	return table
}

// hostAddress is the host's address towards the world. A UDP socket is connected, to an address for documentation (RFC 5737), which sends nothing.
func hostAddress() netip.Addr {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}); err != nil {
		return netip.Addr{}
	}
	own, err := unix.Getsockname(fd)
	if own4, ok := own.(*unix.SockaddrInet4); ok && err == nil {
		return netip.AddrFrom4(own4.Addr)
	}
	return netip.Addr{}
}

func addresses(e netns.Endpoint) (all []netip.Addr) {
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// resolver is the name server of the container's first network, if there is one of those from which the world's names can be asked. Each knows the names of all networks that
// the container is on.
func (n *network) resolver() []string {
	var first []string
	for _, p := range n.request.Places {
		if p.Network.Over() {
			continue // not one of the switch's, which has a name server
		}
		sub, ok := p.Network.Subnet4()
		if !ok {
			sub, ok = p.Network.Subnet6()
		}
		if ok && (first == nil || !p.Network.Internal) {
			first = []string{sub.Gateway.String()}
			if !p.Network.Internal {
				break
			}
		}
	}
	return first
}

// served says that one of the networks is the switch's: it has a name server, and the host has an address.
func (n *network) served() bool {
	return n != nil && slices.ContainsFunc(n.request.Places, func(p plug.Place) bool { return !p.Network.Over() })
}

// named says that one of the networks has names: the switch's name servers know the containers of all but the default network.
func (n *network) named() bool {
	return n != nil && slices.ContainsFunc(n.request.Places, func(p plug.Place) bool {
		return !p.Network.Over() && p.Network.User() && p.Network.Parent() != netns.Bridge
	})
}

// hosts are the container's own lines of /etc/hosts, and those of the containers that it is linked with on the default network, which has no names.
func (n *network) hosts(names string) string {
	var text strings.Builder
	for _, p := range n.request.Places {
		if p.Network.User() {
			continue
		}
		for _, alias := range slices.Sorted(maps.Keys(p.Endpoint.Links)) {
			if there, err := n.store.Endpoint(&p.Network, p.Endpoint.Links[alias]); err == nil && there != nil { // it may have gone since
				for _, a := range addresses(*there) {
					text.WriteString(a.String() + "\t" + strings.Join(slices.Compact([]string{alias, there.Container[:12], there.Name}), " ") + "\n")
				}
			}
		}
	}
	for _, p := range n.request.Places {
		for _, a := range addresses(p.Endpoint) {
			text.WriteString(a.String() + "\t" + names + "\n")
		}
	}
	return text.String()
}
