package netns

// An endpoint: a container's place in a network, and the file that says so.

import (
	"net/netip"
	"time"
)

// HostGateway is the address behind the word host-gateway: the uplink's own (netns/switch/relay), which ends at the host's loopback for those who were given it.
const HostGateway = "198.18.255.1"

// Endpoint is a container's place in one network. Its file lies under <runtime>/net, and it counts for as long as Alive is locked.
type Endpoint struct {
	Version   int       `json:"version"`
	ID        string    `json:"id"`        // 64 hex digits
	Network   string    `json:"network"`   // the network's id; of one that is over a bridge network, that one's
	Container string    `json:"container"` // the container's id
	Created   time.Time `json:"created"`
	// Name is the container's name when it was attached, Aliases what it is called besides on this network alone.
	// Hostname is the one that was asked for.
	Name     string   `json:"name,omitzero"`
	Hostname string   `json:"hostname,omitzero"`
	Aliases  []string `json:"aliases,omitzero"`
	// Links are names that this container alone calls others by: alias -> container id.
	Links map[string]string `json:"links,omitzero"`
	IPv4  netip.Addr        `json:"ipv4,omitzero"`
	IPv6  netip.Addr        `json:"ipv6,omitzero"`
	MAC   string            `json:"mac"`                // 02:42:0a:90:00:02
	Iface string            `json:"interface,omitzero"` // in the container: eth0
	// Priority decides between networks whose gateway is the default route: the highest, then the first name.
	Priority int `json:"priority,omitzero"`
	// Pid is the container's first process in the host's pid namespace, 0 before it lives; trusted only while Alive is locked.
	Pid int `json:"pid,omitzero"`
	// Alive is the file whose lock the container's monitor holds for as long as it lives.
	Alive string `json:"alive"`
	// Via is the id of the macvlan network over Network that the container is on; "" when it is on Network itself.
	Via string `json:"via,omitzero"`
}

// Names are all the names that the endpoint answers to on its network: the container's, its short id, the aliases and the host name that it was given, as Docker has it.
func (e *Endpoint) Names() []string {
	names := append([]string{e.Name, e.Container[:min(12, len(e.Container))]}, e.Aliases...)
	names = append(names, e.Hostname)
	seen := map[string]bool{"": true}
	out := names[:0]
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
