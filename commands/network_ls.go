package commands

// The verbs that show networks.

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run"
)

func networkLsCommand() *cli.Command {
	return &cli.Command{
		Usage: "List networks",
		Flags: []cli.Flag{
			option{"filter", "f", "filter", `Provide filter values (e.g. "driver=bridge")`, ""},
			option{"format", "", "string", formatUsage, ""},
			option{"no-trunc", "", "", "Do not truncate the output", ""},
			option{"quiet", "q", "", "Only display network IDs", ""},
		},
		Action: networkLs,
	}
}

// networkRow is a line of network ls: the fields of its --format.
type networkRow struct {
	CreatedAt, Driver, ID, IPv4, IPv6, Internal, Labels, Name, Scope string

	labels map[string]string
}

// Label is one label's value.
func (r networkRow) Label(name string) string { return r.labels[name] }

func networkLs(c *cli.Context) error {
	networks, records, err := networksOf(c)
	if err != nil {
		return err
	}
	f, err := parseFilters(listOf(c, "filter"), "dangling", "driver", "id", "label", "label!", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, err := f.truth("dangling", false)
	if err != nil {
		return err
	}
	list, listErr := networks.List()
	used := func(*netns.Network) bool { return false } // only asked for when it matters
	if len(f["dangling"]) > 0 {
		if used, err = usedNetworks(records); err != nil {
			return err
		}
	}
	var rows []networkRow
	for _, n := range list {
		own := n.User()
		if !f.match("driver", func(v string) bool { return n.Driver == v }) ||
			!f.pattern("id", n.ID) ||
			!f.pattern("name", n.Name) ||
			!f.match("scope", func(v string) bool { return v == "local" }) ||
			!f.match("type", func(v string) bool { return v == "custom" && own || v == "builtin" && !own }) ||
			!f.labels(n.Labels) || len(f["dangling"]) > 0 && (!own || dangling == used(n)) {
			continue
		}
		id := n.ID
		if !c.Bool("no-trunc") {
			id = id[:12]
		}
		rows = append(rows, networkRow{
			CreatedAt: n.Created.Local().String(), Driver: n.Driver, ID: id, IPv4: strconv.FormatBool(!n.NoIPv4), IPv6: strconv.FormatBool(n.IPv6),
			Internal: strconv.FormatBool(n.Internal), Labels: labelText(n.Labels), Name: n.Name, Scope: "local", labels: n.Labels,
		})
	}
	if c.Bool("quiet") && c.String("format") == "" {
		for _, r := range rows {
			fmt.Fprintln(c.App.Writer, r.ID)
		}
		return listErr
	}
	l := listing[networkRow]{
		columns: []column{{"NETWORK ID", "ID"}, {"NAME", "Name"}, {"DRIVER", "Driver"}, {"SCOPE", "Scope"}},
		cells:   func(r networkRow) []string { return []string{r.ID, r.Name, r.Driver, r.Scope} },
	}
	if err := l.print(c.App.Writer, c.String("format"), rows); err != nil {
		return err
	}
	return listErr
}

func networkInspectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Display detailed information on one or more networks", ArgsUsage: "NETWORK [NETWORK...]",
		Flags:  []cli.Flag{inspectFormat(), option{"verbose", "v", "", "Accepted for compatibility: everything is shown", ""}},
		Action: func(c *cli.Context) error { return inspect(c, "network") },
	}
}

// inspectedNet is Docker's description of a network.
type inspectedNet struct {
	Name, Id, Created, Scope, Driver string //nolint:revive // Docker's spelling
	EnableIPv4, EnableIPv6           bool
	IPAM                             inspectedIPAM
	Internal, Attachable, Ingress    bool
	Containers                       map[string]inspectedMember
	Options, Labels                  map[string]string
}

type inspectedIPAM struct {
	Driver  string
	Options map[string]string
	Config  []inspectedSubnet
}

type inspectedSubnet struct {
	Subnet, Gateway  string
	IPRange          string            `json:",omitempty"`
	AuxiliaryAddress map[string]string `json:"AuxiliaryAddresses,omitempty"`
}

type inspectedMember struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }

// inspectNet describes a network with the containers that are on it.
func inspectNet(h *run.Host, name string) (any, error) {
	networks := netns.Open(h.Records.Data, h.Records.Run)
	n, err := networks.Find(name)
	if err != nil {
		return nil, err
	}
	v := inspectedNet{
		Name: n.Name, Id: n.ID, Created: stamp(n.Created), Scope: "local", Driver: n.Driver, EnableIPv4: !n.NoIPv4, EnableIPv6: n.IPv6,
		IPAM: inspectedIPAM{Driver: "default", Options: map[string]string{}, Config: []inspectedSubnet{}}, Internal: n.Internal, Attachable: n.Attachable,
		Containers: map[string]inspectedMember{}, Options: n.Options, Labels: n.Labels,
	}
	if v.Options == nil {
		v.Options = map[string]string{}
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	for _, s := range n.Subnets {
		shown := inspectedSubnet{Subnet: s.Prefix.String(), Gateway: s.Gateway.String()}
		if s.Range.IsValid() {
			shown.IPRange = s.Range.String()
		}
		for name, a := range s.Reserved {
			if shown.AuxiliaryAddress == nil {
				shown.AuxiliaryAddress = map[string]string{}
			}
			shown.AuxiliaryAddress[name] = a.String()
		}
		v.IPAM.Config = append(v.IPAM.Config, shown)
	}
	members, err := networks.Endpoints(n)
	if err != nil {
		return nil, err
	}
	for _, e := range members {
		m := inspectedMember{Name: e.Name, EndpointID: e.ID, MacAddress: e.MAC}
		if s, ok := n.SubnetOf(e.IPv4); ok {
			m.IPv4Address = netip.PrefixFrom(e.IPv4, s.Prefix.Bits()).String()
		}
		if s, ok := n.SubnetOf(e.IPv6); ok {
			m.IPv6Address = netip.PrefixFrom(e.IPv6, s.Prefix.Bits()).String()
		}
		v.Containers[e.Container] = m
	}
	return v, nil
}
