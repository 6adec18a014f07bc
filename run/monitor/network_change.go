package monitor

// Connecting a running container to a network, and disconnecting it.

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
)

// joinNetwork connects the running container with one more network. The warning is what it does not reach there, "" when there is nothing to say.
func (m *monitor) joinNetwork(p config.Place, f *front) (warning string, err error) {
	now, err := m.current()
	if err != nil {
		return "", err
	}
	n := now.network
	if n == nil {
		return "", fmt.Errorf("cannot connect container %s: it is not on bridge networks", m.record.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	i := 0
	for _, there := range n.request.Places {
		if there.Network.Name == p.Network || there.Network.ID == p.Network {
			return "", fmt.Errorf("cannot connect container %s: it is on network %s already", m.record.Name, p.Network)
		}
	}
	for slices.ContainsFunc(n.request.Places, func(o plug.Place) bool { return strings.HasSuffix(o.Endpoint.Iface, strconv.Itoa(i)) }) {
		i++
	}
	joined, err := n.store.Get(p.Network)
	if err != nil {
		return "", err
	}
	for _, there := range n.request.Places {
		if err := there.Network.Apart(joined); err != nil {
			return "", fmt.Errorf("cannot connect container %s: %w", m.record.Name, err)
		}
	}
	place, err := m.take(n.store, p, i)
	if err != nil {
		return "", err
	}
	// The default routes stay where they are, if there are any, unless this network is to come before.
	stays := func(o plug.Place, is bool) bool { return is && !leadsBefore(place, o) }
	place.Default = hasIPv4(place) && !slices.ContainsFunc(n.request.Places, func(o plug.Place) bool { return stays(o, o.Default) })
	place.Default6 = hasIPv6(place) && !slices.ContainsFunc(n.request.Places, func(o plug.Place) bool { return stays(o, o.Default6) })
	err = n.provide(f, func() error {
		return n.cable.Ask(plug.Request{Op: plug.OpConnect, Container: m.record.ID, Places: []plug.Place{place}})
	})
	if err != nil {
		return "", errors.Join(err, n.store.Detach(&place.Network, m.record.ID))
	}
	for i := range n.request.Places {
		there := &n.request.Places[i]
		there.Default, there.Default6 = there.Default && !place.Default, there.Default6 && !place.Default6
	}
	n.request.Places = append(n.request.Places, place)
	return place.Network.Warning(), errors.Join(m.rewrite(n), m.refreshFiles(n))
}

// leaveNetwork disconnects the running container from one of its networks.
func (m *monitor) leaveNetwork(name string) error {
	now, err := m.current()
	if err != nil {
		return err
	}
	n := now.network
	if n == nil {
		return fmt.Errorf("cannot disconnect container %s: it is not on bridge networks", m.record.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.request.Places, func(o plug.Place) bool { return o.Network.Name == name || o.Network.ID == name })
	if i < 0 {
		return fmt.Errorf("cannot disconnect container %s: it is not on network %s", m.record.Name, name)
	}
	place, rest := n.request.Places[i], slices.Delete(slices.Clone(n.request.Places), i, i+1)
	request := plug.Request{Op: plug.OpDetach, Container: m.record.ID, Network: place.Network.ID}
	if i := defaultPlace(rest, hasIPv4); place.Default && i >= 0 {
		rest[i].Default, request.Default = true, rest[i].Network.ID
	}
	if i := defaultPlace(rest, hasIPv6); place.Default6 && i >= 0 {
		rest[i].Default6, request.Default6 = true, rest[i].Network.ID
	}
	if err := n.cable.Ask(request); err != nil {
		return err
	}
	n.request.Places = rest
	return errors.Join(n.store.Detach(&place.Network, m.record.ID), m.rewrite(n), m.refreshFiles(n))
}

// rewrite notes where the container is now. The network's lock is held.
func (m *monitor) rewrite(n *network) error {
	st, err := m.store.Status(m.record.ID)
	if err != nil || st.Started == nil {
		return err
	}
	started := *st.Started
	started.Ports, started.Networks = nil, nil
	n.record(&started)
	return m.store.WriteStarted(m.record.ID, started, m.sync)
}
