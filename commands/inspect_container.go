package commands

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

// inspectedContainer is the JSON of a container, in the shape of Docker's API.
type inspectedContainer struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           inspectedState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      inspectedHostConfig
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []inspectedMount
	Config          inspectedConfig
	NetworkSettings inspectedNetwork
	GraphDriver     inspectedDriver
}

type inspectedState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *inspectedProbes `json:",omitempty"`
}

type inspectedProbes struct {
	Status        string
	FailingStreak int
	Log           []inspectedProbe
}

type inspectedProbe struct {
	Start, End string
	ExitCode   int
	Output     string
}

type inspectedMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

type inspectedNetwork struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]inspectedBinding
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]inspectedEndpoint
}

type inspectedBinding struct{ HostIp, HostPort string } //nolint:revive // Docker's spelling, which templates use

type inspectedEndpoint struct {
	NetworkID, EndpointID, Gateway, IPAddress, MacAddress string
	IPPrefixLen                                           int
	Aliases, DNSNames                                     []string
	GlobalIPv6Address, IPv6Gateway                        string
	GlobalIPv6PrefixLen                                   int
	Links                                                 []string
	IPAMConfig                                            *inspectedAddresses
	DriverOpts                                            map[string]string
}

func inspectContainer(h *run.Host, t run.Container, size bool) inspectedContainer {
	img, err := h.Images.Load(t.ImageID)
	if err != nil { // it may have been removed by force: what the record knows is shown
		img = &image.Image{ID: t.ImageID}
	}
	dir := h.Records.Dir(t.ID)
	c := inspectedContainer{
		ID: t.ID, Created: stamp(t.Created), Path: t.Path, Args: orEmpty(t.Args), State: inspectState(t.Status),
		Image: "sha256:" + t.ImageID, Name: "/" + t.Name, Driver: first(t.Layer, "overlay"), Platform: "linux",
		ResolvConfPath: filepath.Join(dir, "bundle", "resolv.conf"), HostnamePath: filepath.Join(dir, "bundle", "hostname"),
		HostsPath:  filepath.Join(dir, "bundle", "hosts"),
		HostConfig: inspectHostConfig(t.Config), Mounts: inspectMounts(h, t.Container), Config: inspectConfig(t.Container, img),
		NetworkSettings: inspectNetwork(t), GraphDriver: inspectedDriver{Name: first(t.Layer, "overlay"), Data: map[string]string{}},
	}
	if t.Layer != "vfs" {
		c.GraphDriver.Data = map[string]string{
			"LowerDir": strings.Join(img.Layers, ":"), "UpperDir": filepath.Join(dir, record.Layer, "upper"),
			"WorkDir": filepath.Join(dir, record.Layer, "work"), "MergedDir": filepath.Join(dir, record.Bundle, "rootfs"),
		}
	}
	if t.Started != nil {
		c.RestartCount = t.Started.Restarts
	}
	if t.Config.LogDriver != "none" {
		c.LogPath = filepath.Join(dir, "log")
	}
	if size {
		own := layerSize(h, t.Container)
		whole := own + img.Size
		c.SizeRw, c.SizeRootFs = &own, &whole
	}
	return c
}

// stamp is a time as Docker writes it; the zero time is year one.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func inspectState(s record.Status) inspectedState {
	var zero time.Time
	st := inspectedState{Status: stateText(s), StartedAt: stamp(zero), FinishedAt: stamp(zero)}
	if s.Started != nil {
		st.StartedAt = stamp(s.Started.At)
	}
	if s.Exit != nil {
		st.FinishedAt, st.ExitCode, st.OOMKilled, st.Error = stamp(s.Exit.At), s.Exit.Code, s.Exit.OOMKilled, s.Exit.Error
	}
	switch s.State {
	case record.Running, record.Paused:
		st.Running, st.Paused = true, s.State == record.Paused
		st.ExitCode, st.Error, st.OOMKilled = 0, "", false
		if s.Started != nil {
			st.Pid = s.Started.Pid
		}
	case record.Restarting:
		st.Restarting, st.Running = true, true
		st.OOMKilled = s.Exit.OOMKilled
	case record.Lost:
		st.ExitCode, st.Error = 255, "lost: its monitor was killed or the machine went down"
	}
	if s.Health != nil {
		st.Health = &inspectedProbes{Status: s.Health.Status, FailingStreak: s.Health.FailingStreak, Log: []inspectedProbe{}}
		for _, p := range s.Health.Log {
			st.Health.Log = append(st.Health.Log, inspectedProbe{stamp(p.Start), stamp(p.End), p.ExitCode, p.Output})
		}
	}
	return st
}

// inspectMounts lists volumes and binds; the volumes of a container are in its record, whoever asked for them.
func inspectMounts(h *run.Host, t *record.Container) []inspectedMount {
	mounts := []inspectedMount{}
	asked := map[string]config.Mount{}
	for _, m := range t.Config.Mounts {
		asked[m.Target] = m
		propagation := m.Propagation
		if propagation == "" {
			propagation = "rprivate"
		}
		switch m.Type {
		case config.MountBind:
			mounts = append(mounts, inspectedMount{
				Type: "bind", Source: m.Source, Destination: m.Target, RW: !m.ReadOnly, Propagation: propagation,
			})
		case config.MountTmpfs:
			mounts = append(mounts, inspectedMount{Type: "tmpfs", Destination: m.Target, RW: !m.ReadOnly})
		}
	}
	for _, u := range t.Volumes {
		m := inspectedMount{Type: "volume", Name: u.Name, Destination: u.Target, Driver: "local", RW: !asked[u.Target].ReadOnly}
		if v, err := h.Volumes.Find(u.Name); err == nil {
			m.Source, m.Driver = v.Mountpoint, v.Driver
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// inspectedAddresses are those that were asked for.
type inspectedAddresses struct {
	IPv4Address string `json:",omitempty"`
	IPv6Address string `json:",omitempty"`
}

// asked is what the user said of a container's place on a network.
func asked(c *config.Config, network, id string) inspectedEndpoint {
	var shown inspectedEndpoint
	for _, p := range c.Places {
		if p.Network != network && (id == "" || !strings.HasPrefix(id, p.Network)) {
			continue
		}
		shown.Aliases, shown.Links, shown.MacAddress = p.Aliases, p.Links, p.MAC
		if p.IPv4 != "" || p.IPv6 != "" {
			shown.IPAMConfig = &inspectedAddresses{p.IPv4, p.IPv6}
		}
	}
	return shown
}

func inspectNetwork(t run.Container) inspectedNetwork {
	c := t.Config
	c.Ports = publishedPorts(t)
	n := inspectedNetwork{Ports: portMap(c), Networks: map[string]inspectedEndpoint{}}
	for _, name := range networkNames(&c) {
		if !strings.HasPrefix(name, "container:") { // the networks are that container's
			n.Networks[name] = asked(&c, name, "")
		}
	}
	if !t.Running() || t.Started == nil {
		n.Ports = map[string][]inspectedBinding{}
		return n
	}
	for _, bindings := range n.Ports {
		for i := range bindings {
			bindings[i].HostIp = first(bindings[i].HostIp, "0.0.0.0") // as where it listens
		}
	}
	if len(t.Started.Networks) > 0 {
		clear(n.Networks) // where it is now, by the networks' names
	}
	n.SandboxKey = "/proc/" + strconv.Itoa(t.Started.Pid) + "/ns/net"
	for i, e := range t.Started.Networks {
		shown := asked(&c, e.Network, e.NetworkID)
		shown.NetworkID, shown.EndpointID, shown.MacAddress, shown.Aliases, shown.DNSNames = e.NetworkID, e.EndpointID, e.MAC, e.Aliases, e.Names
		shown.Gateway, shown.IPv6Gateway = e.Gateway4, e.Gateway6
		if p, err := netip.ParsePrefix(e.IPv4); err == nil {
			shown.IPAddress, shown.IPPrefixLen = p.Addr().String(), p.Bits()
		}
		if p, err := netip.ParsePrefix(e.IPv6); err == nil {
			shown.GlobalIPv6Address, shown.GlobalIPv6PrefixLen = p.Addr().String(), p.Bits()
		}
		if i == 0 {
			n.IPAddress, n.IPPrefixLen, n.Gateway = shown.IPAddress, shown.IPPrefixLen, shown.Gateway
			n.GlobalIPv6Address, n.GlobalIPv6PrefixLen, n.IPv6Gateway = shown.GlobalIPv6Address, shown.GlobalIPv6PrefixLen, shown.IPv6Gateway
			n.MacAddress, n.EndpointID = shown.MacAddress, shown.EndpointID
		}
		n.Networks[e.Network] = shown
	}
	return n
}

// portMap is published and exposed ports by "80/tcp".
func portMap(c config.Config) map[string][]inspectedBinding {
	ports := map[string][]inspectedBinding{}
	for _, e := range c.Expose {
		ports[e] = nil
	}
	eachPort(c.Ports, func(p config.Port) {
		key := strconv.Itoa(int(p.Container)) + "/" + p.Protocol
		binding := inspectedBinding{HostIp: p.HostIP}
		if p.Host != 0 {
			binding.HostPort = strconv.Itoa(int(p.Host))
		}
		ports[key] = append(ports[key], binding)
	})
	return ports
}
