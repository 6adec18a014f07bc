package run

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

// Connect puts a container on one more network: at once when it runs, and whenever it is started from then on.
func (h *Host) Connect(_ context.Context, c *record.Container, p config.Place) error {
	return h.rewire(c, stage.Request{Op: stage.OpConnect, Place: &p}, "connect", func(places []config.Place) ([]config.Place, error) {
		if slices.ContainsFunc(places, h.on(p.Network)) {
			return nil, fmt.Errorf("it is on network %s already", p.Network)
		}
		return append(places, p), h.fits(p)
	})
}

// fits says whether the addresses that are asked for are the network's: a container that does not run would fail to start with them.
func (h *Host) fits(p config.Place) error {
	var a [2]netip.Addr
	for i, text := range []string{p.IPv4, p.IPv6} {
		if text != "" {
			var err error
			if a[i], err = netip.ParseAddr(text); err != nil {
				return err
			}
		}
	}
	networks := netns.Open(h.Records.Data, h.Records.Run)
	n, err := networks.Get(p.Network)
	if err != nil {
		return err
	}
	return networks.CheckAddresses(n, a[0], a[1])
}

// Disconnect takes a container off a network, for good.
func (h *Host) Disconnect(_ context.Context, c *record.Container, network string) error {
	return h.rewire(c, stage.Request{Op: stage.OpDisconnect, Place: &config.Place{Network: network}}, "disconnect", func(places []config.Place) ([]config.Place, error) {
		left := slices.DeleteFunc(slices.Clone(places), h.on(network))
		if len(left) == len(places) {
			return nil, fmt.Errorf("it is not on network %s", network)
		}
		return left, nil
	})
}

// on finds a place on the network of this name; users may have named it by its id.
func (h *Host) on(name string) func(config.Place) bool {
	networks := netns.Open(h.Records.Data, h.Records.Run)
	return func(p config.Place) bool {
		n, err := networks.Get(p.Network)
		return p.Network == name || err == nil && n.Name == name
	}
}

// rewire changes the networks that a container is recorded on, and asks the monitor of one that runs to do it.
func (h *Host) rewire(c *record.Container, r stage.Request, verb string, change func([]config.Place) ([]config.Place, error)) error {
	failed := func(err error) error { return fmt.Errorf("cannot %s container %s: %w", verb, c.Name, err) }
	return h.Records.Update(c.ID, func(now *record.Container) error {
		if !now.Config.Bridged() && now.Config.Network != config.NoNetwork {
			return failed(fmt.Errorf("it has the network of --network %s", now.Config.Network))
		}
		places := now.Config.Places
		if len(places) == 0 && now.Config.Bridged() {
			places = []config.Place{{Network: netns.Bridge}}
		}
		places, err := change(places)
		if err != nil {
			return failed(err)
		}
		st, err := h.Records.Status(c.ID)
		if err != nil {
			return err
		}
		if st.Running() {
			if err := h.ask(c, r); err != nil {
				return err
			}
		}
		now.Config.Places, now.Config.Network = places, config.NoNetwork
		if len(places) > 0 {
			now.Config.Network = places[0].Network
		}
		return nil
	})
}

// ask sends the container's monitor a request that is answered by ok or error.
func (h *Host) ask(c *record.Container, r stage.Request) error {
	conn, err := h.dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Send(r); err != nil {
		return err
	}
	reply, err := h.answer(conn)
	if err != nil {
		return fmt.Errorf("the monitor of container %s ended before it answered", c.Name)
	}
	if reply.Kind == stage.Failed {
		return &ErrFailed{reply.Error, reply.Hint, reply.Code}
	}
	return nil
}
