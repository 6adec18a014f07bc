package netns

// How a network gets its subnets: those asked for are checked, missing ones are chosen.

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/skiff-containers/skiff/storage/disk"
)

// pool is where subnets are chosen from: every prefix of this length in it, in order.
type pool struct {
	in   netip.Prefix
	bits int
}

// The pools. The first ones are ranges that Docker, podman, libvirt and Kubernetes leave alone; the later ones are for hosts whose routes take all of 10/8.
// The default network gets a larger subnet.
func pools(name string) []pool {
	if name == Bridge {
		return []pool{{prefix("10.144.0.0/12"), 16}, {prefix("172.20.0.0/14"), 16}, {prefix("192.168.128.0/17"), 20}, {prefix("198.19.0.0/17"), 17}}
	}
	return []pool{{prefix("10.160.0.0/11"), 24}, {prefix("172.24.0.0/14"), 24}, {prefix("192.168.64.0/18"), 24}, {prefix("198.19.128.0/17"), 24}}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// plan checks the subnets of a network to be made and chooses those it lacks.
func (s *Store) plan(n *Network, others []*Network) error {
	if n.NoIPv4 && !n.IPv6 {
		return fmt.Errorf("it has neither IPv4 nor IPv6")
	}
	var taken Routes
	for _, o := range others {
		for _, sub := range o.Subnets {
			taken = append(taken, Route{Prefix: sub.Prefix})
		}
	}
	for _, o := range others {
		if name := n.BridgeName(); name != "" && name == o.BridgeName() {
			return fmt.Errorf("the bridge of network %s has the name %s already", o.Name, name)
		}
	}
	var has4, has6 bool
	for i := range n.Subnets {
		sub := &n.Subnets[i]
		if err := complete(sub); err != nil {
			return err
		}
		if sub.Prefix.Addr().Is6() {
			has6 = true
		} else if has4 = true; n.NoIPv4 {
			return fmt.Errorf("the subnet %s is IPv4's, which was turned off", sub.Prefix)
		}
		for _, o := range others {
			for _, other := range o.Subnets {
				if other.Prefix.Overlaps(sub.Prefix) {
					return fmt.Errorf("%w: %s is partly %s of network %s", ErrOverlap, sub.Prefix, other.Prefix, o.Name)
				}
			}
		}
		for _, earlier := range n.Subnets[:i] {
			if earlier.Prefix.Overlaps(sub.Prefix) {
				return fmt.Errorf("%w: %s and %s", ErrOverlap, earlier.Prefix, sub.Prefix)
			}
		}
	}
	routes := s.hosts()
	n.hides = shadowed(n.Subnets, routes) // whoever asks for one may mean it
	n.IPv6 = n.IPv6 || has6
	if has4 && (!n.IPv6 || has6) || n.NoIPv4 && has6 {
		return nil
	}
	taken = append(taken, routes...)
	if !has4 && !n.NoIPv4 {
		sub, err := choose4(n.Name, taken)
		if err != nil {
			return err
		}
		n.Subnets = append([]Subnet{sub}, n.Subnets...)
	}
	if n.IPv6 && !has6 {
		n.Subnets = append(n.Subnets, choose6(taken))
	}
	return nil
}

// Alike says whether both have the same subnets.
func (n *Network) Alike(o *Network) bool {
	return slices.EqualFunc(n.Subnets, o.Subnets, func(a, b Subnet) bool { return a.Prefix == b.Prefix && a.Gateway == b.Gateway })
}

// evade gives the default network other subnets when a route of the host's overlaps those that it has, unless a container is on it.
func (s *Store) evade(n *Network) (*Network, error) {
	routes := s.hosts()
	met := func(sub Subnet) bool { _, is := routes.Overlaps(sub.Prefix); return is }
	if !slices.ContainsFunc(n.Subnets, met) {
		return n, nil
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if now, err := s.load(n.Name); err != nil || !now.Alike(n) {
		return now, err // somebody was faster
	}
	addresses, err := s.lockAddresses(n)
	if err != nil {
		return nil, err
	}
	defer addresses.Unlock()
	n.hides = shadowed(n.Subnets, routes)
	if users, err := s.endpoints(n); err != nil || len(users) > 0 {
		return n, err
	}
	others, err := s.List()
	if err != nil {
		return nil, err
	}
	other := *n
	other.Subnets, other.hides = nil, nil
	if err := s.plan(&other, slices.DeleteFunc(others, func(o *Network) bool { return o.ID == n.ID })); err != nil {
		return n, nil //nolint:nilerr // it works but for what the route leads to, and there is no better one
	}
	data, err := json.Marshal(&other)
	if err == nil {
		err = disk.WriteFile(s.file(n.Name), data, 0o600, disk.Durable)
	}
	return &other, err
}

// complete checks one asked subnet and gives it its gateway.
func complete(s *Subnet) error {
	p := s.Prefix
	if !p.IsValid() || p.Addr().Is4In6() {
		return fmt.Errorf("invalid subnet: write such as 10.1.2.0/24 or fd00:1::/64")
	}
	if p != p.Masked() {
		return fmt.Errorf("invalid subnet %s: the host's part is not zero, write %s", p, p.Masked())
	}
	if a := p.Addr(); a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || p.Bits() == 0 || a.IsUnspecified() {
		return fmt.Errorf("invalid subnet %s: it is not of addresses that hosts have", p)
	}
	if p.Bits() > p.Addr().BitLen()-2 {
		return fmt.Errorf("invalid subnet %s: it has no room for a gateway and a container; a /%d does", p, p.Addr().BitLen()-2)
	}
	if s.Range.IsValid() {
		if s.Range = s.Range.Masked(); s.Range.Addr().BitLen() != p.Addr().BitLen() || s.Range.Bits() < p.Bits() || !p.Contains(s.Range.Addr()) {
			return fmt.Errorf("%w: the range %s is not in the subnet %s", ErrOutside, s.Range, p)
		}
	}
	if !s.Gateway.IsValid() {
		s.Gateway = p.Addr().Next()
		if s.Range.IsValid() && s.Range.Addr() != p.Addr() {
			s.Gateway = s.Range.Addr().Next() // the first usable one of the range, as Docker does
			if s.Range.Bits() >= p.Addr().BitLen()-1 {
				s.Gateway = p.Addr().Next()
			}
		}
	}
	if !usable(p, s.Gateway) {
		return fmt.Errorf("%w: the gateway %s is not one of the subnet %s's addresses for hosts", ErrOutside, s.Gateway, p)
	}
	for name, a := range s.Reserved {
		if !p.Contains(a) {
			return fmt.Errorf("%w: the address %s=%s is not in the subnet %s", ErrOutside, name, a, p)
		}
	}
	return nil
}

// usable says whether a host may have the address: it is in the prefix and neither its first (the network's, or IPv6's any router) nor IPv4's last (broadcast).
func usable(p netip.Prefix, a netip.Addr) bool {
	return p.Contains(a) && a != p.Addr() && (a.Is6() || p.Contains(a.Next()))
}

// choose4 finds the first free prefix of the pools.
func choose4(name string, taken Routes) (Subnet, error) {
	for _, pool := range pools(name) {
		for p := netip.PrefixFrom(pool.in.Addr(), pool.bits); p.IsValid() && pool.in.Contains(p.Addr()); {
			met, is := taken.Overlaps(p)
			if !is {
				return Subnet{Prefix: p, Gateway: p.Addr().Next()}, nil
			}
			taken := met.Prefix
			if taken.Bits() > p.Bits() {
				taken = p
			}
			p = netip.PrefixFrom(following(taken), pool.bits) // all that is left of a large route is skipped at once
		}
	}
	return Subnet{}, fmt.Errorf("no subnet is free of the host's routes and of other networks; give one with --subnet")
}

// following is the first address behind an IPv4 prefix; the invalid one behind the last.
func following(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	n := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	if n += 1 << (32 - p.Bits()); n > 1<<32-1 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// choose6 makes a unique local /64: fd, 40 random bits and a random subnet (RFC 4193, section 3.2).
func choose6(taken Routes) Subnet {
	for {
		b := [16]byte{0: 0xfd}
		_, _ = rand.Read(b[1:8]) // never fails
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if _, is := taken.Overlaps(p); !is {
			return Subnet{Prefix: p, Gateway: p.Addr().Next()}
		}
	}
}

// checkDriver says whether the driver exists and takes the options.
func checkDriver(n *Network) error {
	var known map[string]func(string) error
	switch n.Driver {
	case DriverBridge:
		known = map[string]func(string) error{
			optionMTU: checkMTU, optionICC: checkBool, optionMasquerade: checkMasquerade, optionPrefix: checkPrefix,
			optionBinding: checkBinding, optionBridge: checkInterface,
		}
	case DriverMacvlan:
		known = map[string]func(string) error{optionMTU: checkMTU, optionPrefix: checkPrefix, optionParent: checkParentName, optionMode: checkMode}
	case DriverHost, DriverNull, None:
		return fmt.Errorf("%w: there is one network with the driver %s, which is always there", ErrPredefined, n.Driver)
	case "pasta", "slirp4netns", "lxc-user-nic":
		return fmt.Errorf("%s has no networks that are made: it is a container's own, `skiff run --network %s`", n.Driver, n.Driver)
	case "overlay", "ipvlan":
		return fmt.Errorf("the driver %s is not part of this version; there are bridge and macvlan", n.Driver)
	default:
		return fmt.Errorf("there is no driver %q; there are bridge and macvlan", n.Driver)
	}
	options := map[string]string{}
	for k, v := range n.Options {
		if k == "mtu" {
			k = optionMTU
		}
		check, ok := known[k]
		if !ok {
			return fmt.Errorf("the driver %s has no option %q", n.Driver, k)
		}
		if err := check(v); err != nil {
			return fmt.Errorf("invalid value %q of the option %s: %w", v, k, err)
		}
		options[k] = v
	}
	if len(n.Options) > 0 {
		n.Options = options
	}
	return nil
}

func checkBinding(v string) error {
	if a, err := netip.ParseAddr(v); err != nil || !a.Is4() {
		return errors.New("it is an IPv4 address of the host")
	}
	return nil
}

// checkMasquerade: what leaves a network goes on from sockets of the host, whose address it has.
func checkMasquerade(v string) error {
	on, err := strconv.ParseBool(v)
	if err == nil && !on {
		err = fmt.Errorf("what leaves has the host's address always; a network that nothing leaves is made with --internal")
	}
	return err
}

func checkBool(v string) error { _, err := strconv.ParseBool(v); return err }

func checkMTU(v string) error {
	if n, err := strconv.Atoi(v); err != nil || n < 576 || n > 65520 {
		return fmt.Errorf("an MTU is 576 to 65520")
	}
	return nil
}

// checkPrefix checks the name of an interface or its beginning (IFNAMSIZ is 16 with the zero).
// checkPrefix: the interface's number follows.
func checkPrefix(v string) error {
	if len(v) > 13 {
		return errors.New("with a number behind it an interface's name has no more than 15 letters")
	}
	return checkInterface(v)
}

func checkInterface(v string) error {
	if v == "" || len(v) > 15 {
		return errors.New("an interface's name has 1 to 15 letters")
	}
	for _, r := range v {
		if r <= ' ' || r == '/' || r == ':' || r > '~' {
			return fmt.Errorf("an interface's name has no %q", r)
		}
	}
	return nil
}

// parseMAC reads a MAC address of one host (not a group's).
func parseMAC(s string) (net.HardwareAddr, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 {
		return nil, fmt.Errorf("invalid MAC address %q: write six bytes such as 02:42:ac:11:00:02, the first one even", s)
	}
	return m, nil
}
