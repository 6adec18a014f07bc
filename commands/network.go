package commands

// The verbs that make and remove networks.

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/record"
)

// networksOf opens the user's networks.
func networksOf(c *cli.Context) (*netns.Store, *record.Store, error) {
	records, err := recordsOf(c)
	if err != nil {
		return nil, nil, err
	}
	return netns.Open(records.Data, records.Run), records, nil
}

func networkCreateCommand() *cli.Command {
	return &cli.Command{
		Usage: "Create a network", ArgsUsage: "NETWORK",
		Flags: []cli.Flag{
			option{"attachable", "", "", "Accepted for compatibility: containers can be attached to every network", ""},
			option{"aux-address", "", "list", "Addresses that no container gets (NAME=IP)", ""},
			option{"driver", "d", "string", "Driver to manage the network", "bridge"},
			option{"gateway", "", "list", "Gateway of a subnet", ""},
			option{"internal", "", "", "Restrict external access to the network", ""},
			option{"ip-range", "", "list", "Allocate container addresses from a sub-range", ""},
			option{"ipv4", "", "", "Enable IPv4 address assignment (default true)", ""},
			option{"ipv6", "", "", "Enable IPv6 address assignment", ""},
			option{"label", "", "list", "Set metadata on the network", ""},
			option{"opt", "o", "list", "Set driver specific options", ""},
			option{"subnet", "", "list", "Subnet in CIDR format", ""},
		},
		Action: networkCreate,
	}
}

func networkCreate(c *cli.Context) error {
	networks, records, err := networksOf(c)
	if err != nil {
		return err
	}
	n := netns.Network{
		Name: c.Args().First(), Driver: c.String("driver"), Internal: c.Bool("internal"), Attachable: c.Bool("attachable"), IPv6: c.Bool("ipv6"),
		NoIPv4: c.IsSet("ipv4") && !c.Bool("ipv4"), Labels: parseLabels(listOf(c, "label")),
	}
	if n.Options, err = parseMap("opt", listOf(c, "opt")); err != nil {
		return err
	}
	if n.Subnets, err = parseSubnets(c); err != nil {
		return err
	}
	made, err := networks.Create(n)
	if err != nil {
		return err
	}
	if err := emitNetwork(records, "create", made); err != nil {
		return err
	}
	if w := made.Warning(); w != "" {
		warn(c.App.ErrWriter, w+" (without --subnet a free one is chosen)")
	}
	_, err = fmt.Fprintln(c.App.Writer, made.ID)
	return err
}

// parseSubnets puts --subnet, --gateway, --ip-range and --aux-address together: each of the latter belongs to the subnet that it is in.
func parseSubnets(c *cli.Context) ([]netns.Subnet, error) {
	var subnets []netns.Subnet
	for _, s := range listOf(c, "subnet") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for --subnet: it has the form 10.1.0.0/24", s)
		}
		subnets = append(subnets, netns.Subnet{Prefix: p.Masked()})
	}
	of := func(flag, word string, a netip.Addr) (*netns.Subnet, error) {
		for i := range subnets {
			if subnets[i].Prefix.Contains(a) {
				return &subnets[i], nil
			}
		}
		return nil, fmt.Errorf("invalid argument %q for --%s: it is in no --subnet", word, flag)
	}
	for _, s := range listOf(c, "gateway") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for --gateway: it is no IP address", s)
		}
		sub, err := of("gateway", s, a)
		if err != nil {
			return nil, err
		}
		sub.Gateway = a
	}
	for _, s := range listOf(c, "ip-range") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for --ip-range: it has the form 10.1.0.128/25", s)
		}
		sub, err := of("ip-range", s, p.Addr())
		if err != nil {
			return nil, err
		}
		sub.Range = p.Masked()
	}
	for _, s := range listOf(c, "aux-address") {
		name, text, _ := strings.Cut(s, "=")
		a, err := netip.ParseAddr(text)
		if err != nil || name == "" {
			return nil, fmt.Errorf("invalid argument %q for --aux-address: it has the form NAME=IP", s)
		}
		sub, err := of("aux-address", s, a)
		if err != nil {
			return nil, err
		}
		if sub.Reserved == nil {
			sub.Reserved = map[string]netip.Addr{}
		}
		sub.Reserved[name] = a
	}
	return subnets, nil
}

func emitNetwork(records *record.Store, action string, n *netns.Network) error {
	return records.Emit(record.Event{Type: "network", Action: action, ID: n.ID, Attributes: map[string]string{"name": n.Name, "type": n.Driver}})
}

func networkRmCommand() *cli.Command {
	return &cli.Command{
		Usage: "Remove one or more networks", ArgsUsage: "NETWORK [NETWORK...]",
		Flags: []cli.Flag{option{"force", "f", "", "Do not complain about networks that are not there", ""}},
		Action: func(c *cli.Context) error {
			networks, records, err := networksOf(c)
			if err != nil {
				return err
			}
			return eachOperand(c, func(name string) error {
				n, findErr := networks.Find(name)
				if errors.Is(findErr, netns.ErrNotFound) && c.Bool("force") {
					return nil
				}
				gone, err := networks.Remove(name)
				if err != nil {
					return err
				}
				if findErr == nil {
					if err := emitNetwork(records, "destroy", n); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintln(c.App.Writer, gone)
				return err
			})
		},
	}
}

func networkPruneCommand() *cli.Command {
	return &cli.Command{
		Usage:  "Remove all unused networks",
		Flags:  pruneFlags("label=<name>"),
		Action: networkPrune,
	}
}

func networkPrune(c *cli.Context) error {
	networks, records, err := networksOf(c)
	if err != nil {
		return err
	}
	f, err := parseFilters(listOf(c, "filter"), "label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until()
	if err != nil {
		return err
	}
	if err := confirm(c, "This will remove all custom networks not used by at least one container."); err != nil {
		return err
	}
	return pruneNetworks(c, networks, records, f, until)
}

// pruneNetworks removes the unused networks that the filters take and that are older than until, and says so.
func pruneNetworks(c *cli.Context, networks *netns.Store, records *record.Store, f filters, until time.Time) error {
	list, err := networks.List()
	if err != nil {
		return err
	}
	used, err := usedNetworks(records)
	if err != nil {
		return err
	}
	heading := false
	for _, n := range list {
		if netns.Predefined(n.Name) || used(n) || !f.labels(n.Labels) || !made(n.Created, until) {
			continue
		}
		if _, err := networks.Remove(n.Name); errors.Is(err, netns.ErrInUse) {
			continue
		} else if err != nil {
			return err
		}
		if !heading {
			fmt.Fprintln(c.App.Writer, "Deleted Networks:")
			heading = true
		}
		fmt.Fprintln(c.App.Writer, n.Name)
		if err := emitNetwork(records, "destroy", n); err != nil {
			return err
		}
	}
	return nil
}

// usedNetworks says of a network whether a container is recorded on it, running or not. Its record may have the network's name or the beginning of its id.
func usedNetworks(records *record.Store) (used func(*netns.Network) bool, err error) {
	all, err := records.List()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, t := range all {
		for _, name := range networkNames(&t.Config) {
			names[name] = true
		}
	}
	return func(n *netns.Network) bool {
		if names[n.Name] {
			return true
		}
		for name := range names {
			if strings.HasPrefix(n.ID, name) {
				return true
			}
		}
		return false
	}, nil
}

func networkConnectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Connect a container to a network", ArgsUsage: "NETWORK CONTAINER",
		Flags: []cli.Flag{
			option{"alias", "", "list", "Add network-scoped alias for the container", ""},
			option{"gw-priority", "", "int", "Which network is the default route: the highest, then the first connected", ""},
			option{"ip", "", "string", "IPv4 address (e.g., 172.30.100.104)", ""},
			option{"ip6", "", "string", "IPv6 address (e.g., 2001:db8::33)", ""},
			option{"link", "", "list", "Add link to another container", ""},
		},
		Action: func(c *cli.Context) error {
			p := config.Place{Network: c.Args().First(), Aliases: listOf(c, "alias"), Links: listOf(c, "link")}
			p.Priority = c.Int("gw-priority")
			for flag, four := range map[string]bool{"ip": true, "ip6": false} {
				if v := c.String(flag); v != "" {
					if err := p.SetAddress(v, four); err != nil {
						return fmt.Errorf("--%s: %w", flag, err)
					}
				}
			}
			return rewire(c, func(h *run.Host, t *record.Container, n *netns.Network) error {
				p.Network = n.Name
				if err := p.CheckNames(); err != nil {
					return fmt.Errorf("cannot connect container %s: %w", t.Name, err)
				}
				return h.Connect(c.Context, t, p)
			}, "connect")
		},
	}
}

func networkDisconnectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Disconnect a container from a network", ArgsUsage: "NETWORK CONTAINER",
		Flags: []cli.Flag{option{"force", "f", "", "Accepted for compatibility: a container is always disconnected at once", ""}},
		Action: func(c *cli.Context) error {
			return rewire(c, func(h *run.Host, t *record.Container, n *netns.Network) error {
				return h.Disconnect(c.Context, t, n.Name)
			}, "disconnect")
		},
	}
}

// rewire finds the network and the container that a verb names, and lets change.
func rewire(c *cli.Context, change func(h *run.Host, t *record.Container, n *netns.Network) error, action string) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	n, err := netns.Open(h.Records.Data, h.Records.Run).Find(c.Args().First())
	if err != nil {
		return err
	}
	if n.Driver != netns.DriverBridge && n.Driver != netns.DriverMacvlan {
		return fmt.Errorf("cannot %s: network %s has no containers to %s (its driver is %s)", action, n.Name, action, n.Driver)
	}
	t, err := h.Find(c.Context, c.Args().Get(1))
	if err != nil {
		return err
	}
	if err := change(h, t.Container, n); err != nil {
		return err
	}
	return h.Records.Emit(record.Event{Type: "network", Action: action, ID: n.ID, Attributes: map[string]string{"container": t.ID, "name": n.Name, "type": n.Driver}})
}
