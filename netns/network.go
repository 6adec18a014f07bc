package netns

// A network: its type, its names and its options.

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Version is the version of a network's file and of an endpoint's. Readers accept it and older ones.
const Version = 1

// The networks that exist without being made, and the names that are words of --network and never a network's.
const (
	Bridge  = "bridge" // the default: Linux bridges behind the switch
	Host    = "host"   // the host's own network namespace
	None    = "none"   // loopback only
	Default = "default"
)

// The drivers that a network can have. DriverNull is Docker's word for the driver of the network none.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverHost    = "host"
	DriverNull    = "null"
)

// Network is one network, as its file holds it.
type Network struct {
	Version int       `json:"version"`
	ID      string    `json:"id"` // 64 hex digits
	Name    string    `json:"name"`
	Driver  string    `json:"driver"`
	Created time.Time `json:"created"`
	// Subnets are one or more of each family that the network has; chosen ones are written like asked ones.
	Subnets []Subnet `json:"subnets,omitzero"`
	// Chosen says of the default network that its subnets are of our choice: they may change while nobody is on it.
	Chosen bool `json:"chosen,omitzero"`
	// NoIPv4 is --ipv4=false, IPv6 is --ipv6.
	NoIPv4     bool              `json:"no_ipv4,omitzero"`
	IPv6       bool              `json:"ipv6,omitzero"`
	Internal   bool              `json:"internal,omitzero"`   // no way out of it
	Attachable bool              `json:"attachable,omitzero"` // kept for inspect: every network here is
	Options    map[string]string `json:"options,omitzero"`    // of the driver, checked by Create
	Labels     map[string]string `json:"labels,omitzero"`
	// ParentID is the id of the bridge network that a macvlan network is over; "" when its parent is an interface.
	ParentID string `json:"parent_id,omitzero"`

	hides *shadow // what its containers do not reach, as far as it is known
}

// Subnet is one range of addresses of a network.
type Subnet struct {
	Prefix netip.Prefix `json:"subnet"`
	// Gateway is the bridge's own address, and the name server's on user networks.
	Gateway netip.Addr `json:"gateway"`
	// Range is where addresses are chosen from; the zero value is all of Prefix.
	Range netip.Prefix `json:"ip_range,omitzero"`
	// Reserved are addresses that are never chosen, by the names the user gave them (--aux-address).
	Reserved map[string]netip.Addr `json:"reserved,omitzero"`
}

// Errors tested with errors.Is.
var (
	ErrNotFound     = errors.New("no such network")
	ErrAmbiguous    = errors.New("several networks have an id that begins so")
	ErrExists       = errors.New("a network with that name exists")
	ErrInUse        = errors.New("the network is in use")
	ErrPredefined   = errors.New("it is a predefined network")
	ErrOverlap      = errors.New("the subnet overlaps")
	ErrAddressInUse = errors.New("the address is in use")
	ErrOutside      = errors.New("the address is outside of the network")
	ErrFull         = errors.New("no address is free")
	ErrCorrupt      = errors.New("the file is damaged")
)

// Predefined says whether a name is one of the networks that exist without a file.
func Predefined(name string) bool { return name == Bridge || name == Host || name == None }

// reserved are the words that --network understands otherwise.
func reserved(name string) bool {
	return slices.Contains([]string{Default, "container", "pasta", "slirp4netns", "lxc-user-nic", "private", "ns"}, name)
}

// CheckName says whether a name may be one of a network, without asking whether one has it.
func CheckName(name string) error {
	if err := disk.Name("network", name); err != nil {
		return err
	}
	if reserved(name) {
		return fmt.Errorf("invalid network name %q: the word has a meaning of its own in --network", name)
	}
	return nil
}

// predefined is a network that exists without a file. Its id is the same everywhere, since nothing remembers it.
func predefined(name string) *Network {
	sum := sha256.Sum256([]byte("skiff network " + name))
	driver := map[string]string{Bridge: DriverBridge, Host: DriverHost, None: DriverNull}[name]
	return &Network{Version: Version, ID: hex.EncodeToString(sum[:]), Name: name, Driver: driver}
}

// User says whether a network is one that a user made: those have a name server, and addresses can be asked for.
func (n *Network) User() bool { return !Predefined(n.Name) }

// Subnet4 is the first subnet of IPv4, ok false when there is none.
func (n *Network) Subnet4() (s Subnet, ok bool) { return n.first(netip.Addr.Is4) }

// Subnet6 is the first subnet of IPv6, ok false when there is none.
func (n *Network) Subnet6() (s Subnet, ok bool) { return n.first(netip.Addr.Is6) }

func (n *Network) first(family func(netip.Addr) bool) (Subnet, bool) {
	i := slices.IndexFunc(n.Subnets, func(s Subnet) bool { return family(s.Prefix.Addr()) })
	if i < 0 {
		return Subnet{}, false
	}
	return n.Subnets[i], true
}

// SubnetOf is the subnet that an address is in.
func (n *Network) SubnetOf(a netip.Addr) (s Subnet, ok bool) {
	i := slices.IndexFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Contains(a) })
	if i < 0 {
		return Subnet{}, false
	}
	return n.Subnets[i], true
}

// Options of the bridge driver, by Docker's names; the short one is understood too.
const (
	optionMTU        = "com.docker.network.driver.mtu"
	optionICC        = "com.docker.network.bridge.enable_icc"
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optionBinding    = "com.docker.network.bridge.host_binding_ipv4"
	optionPrefix     = "com.docker.network.container_iface_prefix"
	optionBridge     = "com.docker.network.bridge.name"
	optionParent     = "parent"       // macvlan's: what is below
	optionMode       = "macvlan_mode" // macvlan's
)

// MTU is what the network's interfaces have, 0 when the user did not say.
func (n *Network) MTU() int {
	v, _ := strconv.Atoi(n.Options[optionMTU]) // checked when it was made
	return v
}

// Isolated says whether containers of this network may not reach each other (enable_icc=false).
func (n *Network) Isolated() bool { return !truth(n.Options[optionICC], true) }

// HostBinding is the host's address that ports are published on when -p names none; invalid when the user did not say.
func (n *Network) HostBinding() netip.Addr {
	a, _ := netip.ParseAddr(n.Options[optionBinding]) // checked when it was made
	return a
}

// BridgeName is another name for the network's bridge, "" when the user did not say.
func (n *Network) BridgeName() string { return n.Options[optionBridge] }

// InterfacePrefix is what the names of the container's interfaces begin with: eth unless the user said otherwise.
func (n *Network) InterfacePrefix() string {
	if p := n.Options[optionPrefix]; p != "" {
		return p
	}
	return "eth"
}

func truth(s string, otherwise bool) bool {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return otherwise
	}
	return v
}
