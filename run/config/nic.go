package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// LXC is the word of --network for an interface that LXC's set-uid program puts on a bridge of the host's.
const LXC = "lxc-user-nic"

// lxcBridge is the bridge that LXC's own service makes.
const lxcBridge = "lxcbr0"

// NIC is what lxc-user-nic[:BRIDGE][,OPTION,...] asks for.
type NIC struct {
	Bridge  string     `json:"bridge"`
	Binary  string     `json:"binary,omitzero"`  // where the program is; "" is where distributions have it
	MTU     int        `json:"mtu,omitzero"`     // 0: the one that the program gives, which is the bridge's
	Address netip.Addr `json:"address,omitzero"` // a fixed one; invalid: by DHCP
	MAC     string     `json:"mac,omitzero"`     // "" follows from the container's id
}

// NIC is the interface that a container is to have on a bridge of the host's; false when it has another kind of network.
func (c *Config) NIC() (NIC, bool) {
	if name, _, _ := strings.Cut(c.Network, ":"); name != LXC {
		return NIC{}, false
	}
	n, err := parseNIC(c.Network)
	return n, err == nil
}

// SetNIC has the interface have an address or a MAC address that was asked for by flags of their own.
func (c *Config) SetNIC(p Place) {
	separator := ","
	if !strings.Contains(c.Network, ":") {
		separator = ":"
	}
	for _, o := range [][2]string{{"ip=", p.IPv4}, {"mac=", p.MAC}} {
		if o[1] != "" {
			c.Network += separator + o[0] + o[1]
			separator = ","
		}
	}
}

// parseNIC reads lxc-user-nic[:BRIDGE][,OPTION,...]; what is said twice is as it was said last.
func parseNIC(s string) (NIC, error) {
	n := NIC{Bridge: lxcBridge}
	failed := func(why string) (NIC, error) { return n, fmt.Errorf("invalid network %q: %s", s, why) }
	_, rest, some := strings.Cut(s, ":")
	for i, word := range strings.Split(rest, ",") {
		key, value, ok := strings.Cut(word, "=")
		if !ok && i == 0 {
			key, value = "bridge", word
		}
		if !some {
			break
		}
		switch key {
		case "bridge":
			if value == "" || len(value) > 15 || strings.ContainsAny(value, "/: \t\n\x00") || value == "." || value == ".." {
				return failed(fmt.Sprintf("%q cannot be the name of a bridge", value))
			}
			n.Bridge = value
		case "binary":
			if !filepath.IsAbs(value) {
				return failed("binary= is the path of the program lxc-user-nic, from the root")
			}
			n.Binary = value
		case "mtu":
			mtu, err := strconv.Atoi(value)
			if err != nil || mtu < 68 || mtu > 65535 {
				return failed(fmt.Sprintf("mtu=%s is no number from 68 to 65535", value))
			}
			n.MTU = mtu
		case "ip":
			a, err := netip.ParseAddr(value)
			if err != nil || !a.Is4() {
				return failed(fmt.Sprintf("ip=%s is no IPv4 address", value))
			}
			n.Address = a
		case "mac", "mac-address":
			mac, err := net.ParseMAC(value)
			if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				return failed(fmt.Sprintf("mac=%s is no MAC address of one interface", value))
			}
			n.MAC = mac.String()
		default:
			return failed(fmt.Sprintf("%q is none of BRIDGE, bridge=BRIDGE, ip=IP, mac=MAC, mtu=N, binary=PATH", word))
		}
	}
	return n, nil
}
