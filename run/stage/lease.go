package stage

import (
	"net/netip"
	"time"
)

// Lease is an address of an interface: for a while, as a DHCP server gave it, or for good.
type Lease struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Servers []netip.Addr `json:"servers,omitzero"` // name servers
	Search  []string     `json:"search,omitzero"`  // domains
	// Length is how long it holds, Renew and Rebind when the server, and then any server, is to be asked again, all counted from the question on. 0 is for ever.
	Length time.Duration `json:"length,omitzero"`
	Renew  time.Duration `json:"renew,omitzero"`
	Rebind time.Duration `json:"rebind,omitzero"`
	// Ack is what the server said, with which it is asked again.
	Ack []byte `json:"ack,omitzero"`
}

// What a LeaseQuestion asks for.
const (
	LeaseObtain  = "obtain"  // an address by DHCP
	LeaseSet     = "set"     // the lease that comes along, which is a fixed one or still holds
	LeaseRenew   = "renew"   // more time, of the server that gave it
	LeaseRebind  = "rebind"  // more time, of any server
	LeaseRelease = "release" // nothing: what there is of it is given back, and the interface deleted
)

// LeaseQuestion is what the stage DHCP reads, in JSON. Its descriptor 3 is the network namespace where the interface is to have an address.
type LeaseQuestion struct {
	Do        string `json:"do"`
	Interface string `json:"interface"`
	// Of obtain and set: how the interface is to be, and that it is still in the network namespace of descriptor 4.
	MAC      string `json:"mac,omitzero"`
	MTU      int    `json:"mtu,omitzero"`
	Moves    bool   `json:"moves,omitzero"`
	Hostname string `json:"hostname,omitzero"` // told to the server
	// Lease is the one before, nil without.
	Lease *Lease `json:"lease,omitempty"`
}

// LeaseAnswer is what the stage DHCP prints, in JSON.
type LeaseAnswer struct {
	Lease   *Lease `json:"lease,omitempty"`
	Refused bool   `json:"refused,omitzero"` // the server takes the address back
	Silent  bool   `json:"silent,omitzero"`  // no server answered
	Error   string `json:"error,omitzero"`
}
