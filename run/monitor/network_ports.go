package monitor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

// The published ports of a container, as they are asked for and as they are noted.

// allPorts are the ports of -p and, with -P, those that the image and --expose name besides.
func allPorts(c *config.Config, img *image.Image) []config.Port {
	list := slices.Clone(c.Ports)
	if !c.PublishAll {
		return list
	}
	exposed := append(slices.Sorted(maps.Keys(img.Config.Config.ExposedPorts)), c.Expose...)
	for _, e := range exposed {
		p, err := config.ParsePort(e)
		if err != nil {
			continue // of an image: nobody here wrote it
		}
		for i := range max(p.Count, 1) {
			one := config.Port{Container: p.Container + i, Protocol: p.Protocol}
			there := func(o config.Port) bool {
				return o.Protocol == one.Protocol && one.Container >= o.Container && one.Container < o.Container+max(o.Count, 1)
			}
			if !slices.ContainsFunc(list, there) {
				list = append(list, one)
			}
		}
	}
	return list
}

// ports are the published ports, one by one.
func ports(list []config.Port) ([]plug.Port, error) {
	if err := config.CheckPorts(list); err != nil {
		return nil, fmt.Errorf("cannot publish ports: %w", err)
	}
	var all []plug.Port
	for _, p := range list {
		var ip netip.Addr
		if p.HostIP != "" {
			var err error
			if ip, err = netip.ParseAddr(p.HostIP); err != nil {
				return nil, fmt.Errorf("cannot publish a port at %q: %w", p.HostIP, err)
			}
		}
		for i := range max(p.Count, 1) {
			one := plug.Port{IP: ip, Container: p.Container + i, Protocol: p.Protocol}
			if p.Host != 0 {
				one.Host, one.HostEnd = p.Host+i, p.HostEnd
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// recordPorts notes the published ports.
func recordPorts(s *record.Started, ports []plug.Port) {
	for _, p := range plug.Expand(ports) {
		host := config.Port{Container: p.Container, Host: p.Host, Protocol: p.Protocol}
		if p.IP.IsValid() {
			host.HostIP = p.IP.String()
		}
		// A range that was asked for as one is shown as one.
		if last := len(s.Ports) - 1; last >= 0 {
			l := &s.Ports[last]
			if l.HostIP == host.HostIP && l.Protocol == host.Protocol && l.Container+max(l.Count, 1) == host.Container && l.Host+max(l.Count, 1) == host.Host {
				l.Count = max(l.Count, 1) + 1
				continue
			}
		}
		s.Ports = append(s.Ports, host)
	}
}
