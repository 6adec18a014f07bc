package config

import (
	"strings"
	"testing"
)

func TestNIC(t *testing.T) {
	tests := []struct {
		name, network string
		want          NIC    // but for the address
		address       string // "" for none
		fails         string // part of the error
	}{
		{"alone", "lxc-user-nic", NIC{Bridge: "lxcbr0"}, "", ""},
		{"bridge", "lxc-user-nic:br1", NIC{Bridge: "br1"}, "", ""},
		{"bridge by its key", "lxc-user-nic:mtu=1400,bridge=br1", NIC{Bridge: "br1", MTU: 1400}, "", ""},
		{"all", "lxc-user-nic:br1,binary=/opt/nic,mtu=9000,ip=10.0.3.9,mac=02:AA:bb:cc:dd:ee", NIC{Bridge: "br1", Binary: "/opt/nic", MTU: 9000, MAC: "02:aa:bb:cc:dd:ee"}, "10.0.3.9", ""},
		{"no bridge", "lxc-user-nic:", NIC{}, "", `"" cannot be`},
		{"a path", "lxc-user-nic:../x", NIC{}, "", "../x"},
		{"a long name", "lxc-user-nic:abcdefghijklmnop", NIC{}, "", "abcdefghijklmnop"},
		{"two bridges", "lxc-user-nic:a,b", NIC{}, "", `"b" is none of`},
		{"relative", "lxc-user-nic:binary=nic", NIC{}, "", "from the root"},
		{"small packets", "lxc-user-nic:mtu=67", NIC{}, "", "mtu=67"},
		{"IPv6", "lxc-user-nic:ip=fd00::1", NIC{}, "", "fd00::1"},
		{"a MAC address of many", "lxc-user-nic:mac=01:00:5e:00:00:01", NIC{}, "", "01:00:5e"},
		{"a long MAC address", "lxc-user-nic:mac=02:00:5e:00:00:01:02:03", NIC{}, "", "02:00:5e"},
		{"unknown", "lxc-user-nic:colour=red", NIC{}, "", "colour=red"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			place, err := ParseNetwork(tt.network)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("the error is %v, want one with %q", err, tt.fails)
				}
				return
			}
			if err != nil || place.Network != tt.network {
				t.Fatalf("got %+v and %v", place, err)
			}
			c := &Config{Network: tt.network}
			got, ok := c.NIC()
			address := ""
			if got.Address.IsValid() {
				address = got.Address.String()
			}
			got.Address = tt.want.Address
			if !ok || got != tt.want || address != tt.address || c.Bridged() {
				t.Errorf("got %+v at %q, %v, bridged %v; want %+v at %q", got, address, ok, c.Bridged(), tt.want, tt.address)
			}
		})
	}
	if _, err := ParseNetwork("name=lxc-user-nic,ip=10.0.3.4"); err == nil || !strings.Contains(err.Error(), "is no network but a mode") {
		t.Errorf("the error is %v", err)
	}
}

func TestSetNIC(t *testing.T) {
	tests := []struct{ network, want string }{
		{"lxc-user-nic", "lxc-user-nic:ip=10.0.3.4,mac=02:00:00:00:00:01"},
		{"lxc-user-nic:br1", "lxc-user-nic:br1,ip=10.0.3.4,mac=02:00:00:00:00:01"},
		{"lxc-user-nic:br1,ip=10.0.3.9", "lxc-user-nic:br1,ip=10.0.3.9,ip=10.0.3.4,mac=02:00:00:00:00:01"},
	}
	for _, tt := range tests {
		c := &Config{Network: tt.network}
		c.SetNIC(Place{IPv4: "10.0.3.4", MAC: "02:00:00:00:00:01"})
		if n, ok := c.NIC(); c.Network != tt.want || !ok || n.Address.String() != "10.0.3.4" {
			t.Errorf("%s became %s, %+v", tt.network, c.Network, n)
		}
	}
}
