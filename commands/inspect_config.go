package commands

import (
	"cmp"
	"slices"
	"strings"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

// inspectedConfig is the part of a container that does not depend on the host, in the shape of Docker's API.
type inspectedConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Image        string
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string           `json:",omitempty"`
	StopTimeout  *int             `json:",omitempty"`
	Healthcheck  *inspectedHealth `json:",omitempty"`
}

// inspectConfig merges what was asked with the image, as the container's process sees it.
func inspectConfig(t *record.Container, img *image.Image) inspectedConfig {
	a, i := t.Config, img.Config.Config
	c := inspectedConfig{
		Hostname: a.Hostname, Domainname: a.Domainname, User: first(a.User, i.User),
		AttachStdin:  !a.Detach && a.Interactive && (len(a.Attach) == 0 || slices.Contains(a.Attach, "stdin")),
		AttachStdout: !a.Detach && (len(a.Attach) == 0 || slices.Contains(a.Attach, "stdout")),
		AttachStderr: !a.Detach && (len(a.Attach) == 0 || slices.Contains(a.Attach, "stderr")),
		ExposedPorts: map[string]struct{}{}, Tty: a.Tty, OpenStdin: a.Interactive, StdinOnce: a.Interactive && !a.Detach,
		Env: mergeEnv(i.Env, a), Cmd: a.Command, Image: first(a.Image, t.ImageName), Volumes: i.Volumes,
		WorkingDir: first(a.Workdir, i.WorkingDir), Entrypoint: a.Entrypoint, OnBuild: img.OnBuild,
		Labels: map[string]string{}, StopSignal: first(a.StopSignal, i.StopSignal), StopTimeout: a.StopTimeout,
	}
	c.Healthcheck = askedHealth(a.Health, img)
	if a.Hostname == "" {
		c.Hostname = shortID(t.ID)
	}
	if c.Entrypoint == nil && !a.ClearEntrypoint {
		c.Entrypoint = i.Entrypoint
		if c.Cmd == nil {
			c.Cmd = i.Cmd
		}
	}
	for _, labels := range []map[string]string{i.Labels, a.Labels} {
		for k, v := range labels {
			c.Labels[k] = v
		}
	}
	for p := range i.ExposedPorts {
		c.ExposedPorts[p] = struct{}{}
	}
	for p := range portMap(a) {
		c.ExposedPorts[p] = struct{}{}
	}
	return c
}

// askedHealth is the image's health check with what was asked over it.
func askedHealth(asked config.Health, img *image.Image) *inspectedHealth {
	h := inspectHealth(img)
	if asked == (config.Health{}) {
		return h
	}
	if h == nil {
		h = &inspectedHealth{}
	}
	if asked.Command != "" {
		h.Test = []string{"CMD-SHELL", asked.Command}
	}
	if asked.Disable {
		h.Test = []string{"NONE"}
	}
	h.Interval, h.Timeout = cmp.Or(asked.Interval, h.Interval), cmp.Or(asked.Timeout, h.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(asked.StartPeriod, h.StartPeriod), cmp.Or(asked.StartInterval, h.StartInterval)
	h.Retries = cmp.Or(asked.Retries, h.Retries)
	return h
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// mergeEnv is the image's variables with the asked ones over them.
func mergeEnv(image []string, c config.Config) []string {
	env := []string{}
	for _, kv := range append(slices.Clone(image), c.Env...) {
		name, _, _ := strings.Cut(kv, "=")
		if i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }); i >= 0 {
			env[i] = kv
			continue
		}
		env = append(env, kv)
	}
	return slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(c.UnsetEnv, name)
	})
}

// inspectedHostConfig is what depends on the host, in the shape of Docker's API.
type inspectedHostConfig struct {
	Binds           []string
	LogConfig       inspectedLog
	NetworkMode     string
	PortBindings    map[string][]inspectedBinding
	RestartPolicy   inspectedRestart
	AutoRemove      bool
	VolumeDriver    string
	VolumesFrom     []string
	CapAdd          []string
	CapDrop         []string
	CgroupnsMode    string
	Dns             []string //nolint:revive // Docker's spelling
	DnsOptions      []string //nolint:revive // Docker's spelling
	DnsSearch       []string //nolint:revive // Docker's spelling
	ExtraHosts      []string
	GroupAdd        []string
	IpcMode         string
	OomScoreAdj     int
	PidMode         string
	Privileged      bool
	PublishAllPorts bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	Tmpfs           map[string]string `json:",omitempty"`
	UTSMode         string
	UsernsMode      string
	ShmSize         int64
	Sysctls         map[string]string `json:",omitempty"`
	Runtime         string
	CpuShares       uint64 //nolint:revive // Docker's spelling
	Memory          int64
	NanoCpus        int64
	CgroupParent    string
	BlkioWeight     uint16

	BlkioWeightDevice    []inspectedWeight
	BlkioDeviceReadBps   []inspectedRate
	BlkioDeviceWriteBps  []inspectedRate
	BlkioDeviceReadIOps  []inspectedRate
	BlkioDeviceWriteIOps []inspectedRate

	CpuPeriod         uint64 //nolint:revive // Docker's spelling
	CpuQuota          int64  //nolint:revive // Docker's spelling
	CpusetCpus        string
	CpusetMems        string
	Devices           []inspectedDevice
	MemoryReservation int64
	MemorySwap        int64
	MemorySwappiness  *int64
	OomKillDisable    bool
	PidsLimit         int64
	Ulimits           []config.Ulimit
	Init              bool
	Links             []string
	ContainerIDFile   string
	ConsoleSize       [2]int
	Cgroup            string
	Isolation         string
	StorageOpt        map[string]string `json:",omitempty"`
	DeviceCgroupRules []string
	DeviceRequests    []deviceRequest
	MaskedPaths       []string
	ReadonlyPaths     []string
}

type inspectedLog struct {
	Type   string
	Config map[string]string
}

type inspectedRestart struct {
	Name              string
	MaximumRetryCount int
}

type deviceRequest struct {
	Driver    string
	DeviceIDs []string
}

type inspectedWeight struct {
	Path   string
	Weight uint64
}

type inspectedRate struct {
	Path string
	Rate uint64
}

type inspectedDevice struct{ PathOnHost, PathInContainer, CgroupPermissions string }

func inspectHostConfig(c config.Config) inspectedHostConfig {
	l := c.Limits
	h := inspectedHostConfig{
		LogConfig:   inspectedLog{first(c.LogDriver, "local"), c.LogOptions},
		NetworkMode: networkName(c.Network), PortBindings: portMap(config.Config{Ports: c.Ports}),
		RestartPolicy: inspectedRestart{first(c.Restart.Policy, "no"), c.Restart.MaxRetries}, AutoRemove: c.Remove,
		VolumesFrom: c.VolumesFrom, CapAdd: c.CapAdd, CapDrop: c.CapDrop, CgroupnsMode: first(c.Cgroupns, "private"),
		Dns: orEmpty(c.DNS), DnsOptions: orEmpty(c.DNSOptions), DnsSearch: orEmpty(c.DNSSearch), GroupAdd: c.GroupAdd,
		IpcMode: first(c.IPC, "private"), PidMode: c.Pid, Privileged: c.Privileged, PublishAllPorts: c.PublishAll,
		ReadonlyRootfs: c.ReadOnly, UTSMode: c.UTS, UsernsMode: c.Userns, ShmSize: c.ShmSize, Sysctls: c.Sysctls,
		Runtime: first(c.Runtime, "skiff"), CpuShares: l.CPUShares, Memory: l.Memory, NanoCpus: l.NanoCPUs, CgroupParent: c.CgroupParent,
		BlkioWeight: l.BlkioWeight, CpuPeriod: l.CPUPeriod, CpuQuota: l.CPUQuota, CpusetCpus: l.CPUSetCPUs, CpusetMems: l.CPUSetMems,
		MemoryReservation: l.MemoryReservation, MemorySwap: l.MemorySwap, MemorySwappiness: l.MemorySwappiness,
		OomKillDisable: l.OOMKillDisable, PidsLimit: l.Pids, Ulimits: c.Ulimits, Init: c.Init, Devices: []inspectedDevice{},
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if l.OOMScoreAdj != nil {
		h.OomScoreAdj = *l.OOMScoreAdj
	}
	for _, e := range c.AddHost {
		h.ExtraHosts = append(h.ExtraHosts, e.Name+":"+e.IP)
	}
	for _, d := range c.Devices {
		h.Devices = append(h.Devices, inspectedDevice{d.Host, d.Container, first(d.Permissions, "rwm")})
	}
	for _, b := range l.Block {
		rate := inspectedRate{b.Path, b.Value}
		switch b.Flag {
		case config.ReadBps:
			h.BlkioDeviceReadBps = append(h.BlkioDeviceReadBps, rate)
		case config.WriteBps:
			h.BlkioDeviceWriteBps = append(h.BlkioDeviceWriteBps, rate)
		case config.ReadIOps:
			h.BlkioDeviceReadIOps = append(h.BlkioDeviceReadIOps, rate)
		case config.WriteIOps:
			h.BlkioDeviceWriteIOps = append(h.BlkioDeviceWriteIOps, rate)
		case config.DeviceWeight:
			h.BlkioWeightDevice = append(h.BlkioWeightDevice, inspectedWeight{b.Path, b.Value})
		}
	}
	if len(c.CDI) > 0 {
		h.DeviceRequests = []deviceRequest{{"cdi", c.CDI}}
	}
	if c.Security.NoNewPrivileges {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
	}
	if s := c.Security; s.Seccomp != "" {
		h.SecurityOpt = append(h.SecurityOpt, "seccomp="+first(s.SeccompPath, s.Seccomp))
	}
	for _, m := range c.Mounts {
		mode := ""
		if m.ReadOnly {
			mode = ":ro"
		}
		switch {
		case m.Type == config.MountTmpfs:
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Target] = strings.Join(m.Options, ",")
		case m.Source != "":
			h.Binds = append(h.Binds, m.Source+":"+m.Target+mode)
		}
	}
	return h
}
