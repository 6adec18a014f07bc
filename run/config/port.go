package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePort reads the argument of -p: [[IP:][HOST]:]CONTAINER[/PROTOCOL], with ranges, or Docker's long form of it, target=CONTAINER,published=HOST,protocol=PROTOCOL. As many ports as the container's range has come back as one Port.
func ParsePort(s string) (Port, error) {
	bad := func(why string) (Port, error) {
		return Port{}, fmt.Errorf("invalid port %q: %s; write such as 8080:80, 127.0.0.1:8080:80/tcp or 7000-7009:7000-7009/udp", s, why)
	}
	p := Port{Protocol: "tcp"}
	if strings.Contains(s, "=") {
		short, why := shortPort(s)
		if why != "" {
			return bad(why)
		}
		return ParsePort(short)
	}
	text, protocol, has := strings.Cut(s, "/")
	if has {
		p.Protocol = strings.ToLower(protocol)
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" && p.Protocol != "sctp" {
		return bad("the protocol is tcp, udp or sctp")
	}
	container, rest := text, ""
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		container, rest = text[i+1:], text[:i]
	}
	host := rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host = rest[i+1:]
		ip, bracketed := unbracket(rest[:i])
		if ip != "" {
			addr, err := netip.ParseAddr(ip)
			switch {
			case err != nil || addr.Zone() != "" || bracketed && addr.Is4():
				return bad(fmt.Sprintf("%q is not an address", rest[:i]))
			case addr.Is6() && !bracketed:
				return bad(fmt.Sprintf("an IPv6 address goes in brackets, [%s]", ip))
			}
			p.HostIP = addr.String()
		}
	}
	first, last, ok := portRange(container)
	if !ok {
		return bad("the container's port is a number from 1 to 65535, or a range of them")
	}
	p.Container = first
	if n := last - first + 1; n > 1 {
		p.Count = n
	}
	if host != "" {
		if host == "0" {
			return p, nil // any free one, as when none is written
		}
		hostFirst, hostLast, ok := portRange(host)
		if !ok {
			return bad("the host's port is a number from 1 to 65535, or a range of them")
		}
		p.Host = hostFirst
		switch {
		case hostLast-hostFirst == last-first:
		case first == last:
			p.HostEnd = hostLast
		default:
			return bad("the ranges have different lengths")
		}
	}
	return p, nil
}

// shortPort writes the long form as the short one; why is what is wrong with it.
func shortPort(s string) (short, why string) {
	words := map[string]string{"protocol": "tcp"}
	for _, word := range strings.Split(s, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case key != "target" && key != "published" && key != "protocol" && key != "mode" || value == "" || strings.ContainsAny(value, "=:/"):
			return "", fmt.Sprintf("%q is none of target=PORT, published=PORT, protocol=tcp|udp and mode=host", word)
		case key == "mode" && value != "host" && value != "ingress": // Docker's swarms know a difference
			return "", "the mode is host"
		}
		words[key] = value
	}
	return words["published"] + ":" + words["target"] + "/" + words["protocol"], ""
}

// MaxPorts is how many ports a container may publish: each costs a descriptor of the switch's, or of the program that connects the container.
const MaxPorts = 10000

// CheckPorts says whether they are few enough.
func CheckPorts(list []Port) error {
	total := 0
	for _, p := range list {
		total += int(max(p.Count, 1))
	}
	if total > MaxPorts {
		return fmt.Errorf("%d ports are more than the %d that a container may publish; publish fewer, or use --network host, where all of its ports are the host's", total, MaxPorts)
	}
	return nil
}

// unbracket takes the brackets from around an IPv6 address.
func unbracket(s string) (ip string, bracketed bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			return inner, true
		}
	}
	return s, false
}

// ParseExpose reads PORT[-PORT][/PROTOCOL] and returns it with its protocol.
func ParseExpose(s string) (string, error) {
	ports, protocol, has := strings.Cut(s, "/")
	if !has {
		protocol = "tcp"
	}
	if _, _, ok := portRange(ports); !ok || protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return "", fmt.Errorf("invalid port to expose %q: write such as 80, 53/udp or 7000-7009/tcp", s)
	}
	return ports + "/" + protocol, nil
}

func portRange(s string) (first, last uint16, ok bool) {
	a, b, two := strings.Cut(s, "-")
	if !two {
		b = a
	}
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	return uint16(x), uint16(y), err1 == nil && err2 == nil && x > 0 && y >= x
}

// ParseHost reads --add-host: NAME:IP or NAME=IP; the IP may be host-gateway.
func ParseHost(s string) (Host, error) {
	i := strings.IndexAny(s, "=:")
	if i > 0 {
		ip, _ := unbracket(s[i+1:])
		h := Host{Name: s[:i], IP: ip}
		if _, err := netip.ParseAddr(h.IP); err == nil || h.IP == "host-gateway" {
			if !strings.ContainsAny(h.Name, " \t\n") {
				return h, nil
			}
		}
	}
	return Host{}, fmt.Errorf("invalid host %q: write NAME:IP, such as db:10.0.0.5", s)
}

// ParseNetwork reads one argument of --network: a mode (host, none, container:ID), or a network with what is asked for on it,
// as name=NET,alias=A,ip=IP (Docker's) or NET:ip=IP,alias=A (Podman's). For a mode only Network is set.
func ParseNetwork(s string) (Place, error) {
	name, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "host", s == "none", name == "container" && rest != "":
		return Place{Network: s}, nil
	case s == "", s == "default":
		return Place{Network: "bridge"}, nil
	case name == Slirp, name == Pasta:
		return Place{Network: s}, nil
	case name == LXC:
		_, err := parseNIC(s)
		return Place{Network: s}, err
	case name == "container":
		return Place{}, fmt.Errorf("invalid network %q: write container:NAME", s)
	}
	var p Place
	words := strings.Split(rest, ",")
	if strings.Contains(name, "=") || strings.Contains(s, ",") && !strings.Contains(name, ",") && rest == "" {
		words = strings.Split(s, ",")
	} else {
		p.Network = name
	}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if word == "" {
			continue
		}
		if !ok || value == "" {
			return p, fmt.Errorf("invalid network %q: %q is no KEY=VALUE", s, word)
		}
		var err error
		switch key {
		case "name":
			p.Network = value
		case "alias":
			p.Aliases = append(p.Aliases, value)
		case "ip":
			err = p.SetAddress(value, true)
		case "ip6":
			err = p.SetAddress(value, false)
		case "mac", "mac-address":
			p.MAC = value
		case "gw-priority":
			p.Priority, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("there is no option %q; there are name, alias, ip, ip6, mac-address and gw-priority", key)
		}
		if err != nil {
			return p, fmt.Errorf("invalid network %q: %w", s, err)
		}
	}
	switch p.Network {
	case "":
		return p, fmt.Errorf("invalid network %q: it names none", s)
	case "host", "none", "container", Slirp, Pasta, LXC:
		return p, fmt.Errorf("invalid network %q: %s is no network but a mode, which takes no alias, address or name=; write --network %[2]s", s, p.Network)
	}
	if strings.ContainsAny(p.Network, ",=:/ \t\n\x00") {
		return p, fmt.Errorf("invalid network %q: %q cannot be the name of one", s, p.Network)
	}
	return p, nil
}

// SetAddress sets the address that is asked for, of IPv4 or of IPv6.
func (p *Place) SetAddress(s string, four bool) error {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no IP address", s)
	case a.Is4() != four:
		return fmt.Errorf("%s is an address of the other family", s)
	case four:
		p.IPv4 = a.String()
	default:
		p.IPv6 = a.String()
	}
	return nil
}
