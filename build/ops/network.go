package ops

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

// Switch is what commands need to be on a bridge network: the directories of the user's state, and the program that the switch is.
type Switch struct {
	Data, Run, Engine string
}

// cord is a command's connection with a network, as a container has one: an address for as long as its lock is held, and a cable to the switch.
type cord struct {
	store   *netns.Store
	alive   *disk.Lock
	options plug.Options
	cable   *plug.Cable
	request plug.Request
	space   *os.File
}

// newCord takes an address on a network for a command whose bundle is dir; loopback says that it may reach the host's loopback.
func newCord(sw Switch, network, dir string, loopback bool) (c *cord, err error) {
	c = &cord{store: netns.Open(sw.Data, sw.Run), options: plug.Options{Data: sw.Data, Run: sw.Run, Engine: sw.Engine}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	n, err := c.store.Get(network)
	if err != nil {
		return c, err
	}
	if n.Driver != netns.DriverBridge {
		return c, fmt.Errorf("cannot build on network %s: its driver is %s", network, n.Driver)
	}
	alive := filepath.Join(dir, "alive")
	if c.alive, err = disk.TryLock(alive, disk.Exclusive); err != nil {
		return c, err
	}
	id := record.NewID()
	e, err := c.store.Attach(n, netns.Endpoint{Container: id, Name: "build-" + id[:12], Iface: n.InterfacePrefix() + strconv.Itoa(0), Alive: alive})
	if err != nil {
		return c, err
	}
	c.request = plug.Request{Container: id, Places: []plug.Place{{Network: *n, Endpoint: *e, Default: true}}, Loopback: loopback}
	return c, nil
}

// plug connects the network namespace of process pid. A switch that goes as we come is started once more.
func (c *cord) plug(pid int) (err error) {
	if c.space, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
		return fmt.Errorf("cannot connect to the network: %w", err)
	}
	for range 2 {
		if c.cable, err = plug.Connect(c.options); err != nil {
			return &plug.Refusal{Text: err.Error(), Hint: "build without it with --network none or --network host"}
		}
		if _, err = c.cable.Attach(c.request, c.space); !errors.Is(err, plug.ErrGone) {
			return err
		}
		_ = c.cable.Close() // it is dead
		c.cable = nil
	}
	return err
}

// resolver is the network's name server.
func (c *cord) resolver() string {
	n := c.request.Places[0].Network
	sub, ok := n.Subnet4()
	if !ok {
		sub, _ = n.Subnet6()
	}
	return sub.Gateway.String()
}

// close disconnects the command and gives the address back. A nil cord is none.
func (c *cord) close() error {
	if c == nil {
		return nil
	}
	var errs []error
	if c.cable != nil {
		errs = append(errs, c.cable.Close())
	}
	if c.space != nil {
		errs = append(errs, c.space.Close())
	}
	for _, p := range c.request.Places {
		errs = append(errs, c.store.Detach(&p.Network, c.request.Container))
	}
	if c.alive != nil {
		errs = append(errs, c.alive.Unlock())
	}
	return errors.Join(errs...)
}

// cord is the command's connection with its network; nil when that is the host's or none.
func (o *execOp) cord(c config.Config, dir string) (*cord, error) {
	if !c.Bridged() {
		return nil, nil
	}
	loopback := false
	for _, h := range o.op.Meta.ExtraHosts {
		loopback = loopback || h.IP == netns.HostGateway
	}
	return newCord(o.env.Switch, c.Network, dir, loopback)
}
