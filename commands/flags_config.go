package commands

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run/config"
)

// reader turns the flags of one command into values; the first that cannot be read is kept, named by its flag.
type reader struct {
	c   *cli.Context
	err error
}

// configOf reads the flags and operands of run and create.
func configOf(c *cli.Context) (config.Config, error) {
	if err := refuse(c); err != nil {
		return config.Config{}, err
	}
	r := &reader{c: c}
	words := c.Args().Slice()
	cfg := config.Config{
		Version: config.Version, Image: words[0],
		User: c.String("user"), GroupAdd: listOf(c, "group-add"), Workdir: c.String("workdir"), Umask: c.String("umask"),
		Tty: c.Bool("tty"), Interactive: c.Bool("interactive"), Detach: c.Bool("detach"),
		Hostname: c.String("hostname"), Domainname: c.String("domainname"),
		DNS: listOf(c, "dns"), DNSSearch: listOf(c, "dns-search"), DNSOptions: append(listOf(c, "dns-option"), listOf(c, "dns-opt")...),
		PublishAll: c.Bool("publish-all"), VolumesFrom: listOf(c, "volumes-from"), ReadOnly: c.Bool("read-only"),
		CapAdd: listOf(c, "cap-add"), CapDrop: listOf(c, "cap-drop"), Privileged: c.Bool("privileged"),
		Init: c.Bool("init"), Remove: c.Bool("rm"), StopSignal: c.String("stop-signal"),
		LogDriver: c.String("log-driver"), Runtime: c.String("runtime"), Platform: c.String("platform"), CgroupParent: c.String("cgroup-parent"),
		StorageDriver: c.String("storage-driver"),
		Userns:        c.String("userns"), UnsetEnv: listOf(c, "unsetenv"),
		Health: config.Health{Disable: c.Bool("no-healthcheck")},
	}
	if len(words) > 1 {
		cfg.Command = words[1:]
	}
	if c.IsSet("entrypoint") {
		if e := c.String("entrypoint"); e == "" {
			cfg.ClearEntrypoint = true
		} else {
			cfg.Entrypoint = []string{e}
		}
	}
	if c.IsSet("detach-keys") {
		cfg.DetachKeys = c.String("detach-keys")
	}
	r.attach(&cfg)
	r.environment(&cfg)
	r.namespaces(&cfg)
	r.mounts(&cfg)
	r.security(&cfg)
	r.limits(&cfg.Limits)
	r.life(&cfg)
	r.rest(&cfg)
	return cfg, r.err
}

// fail keeps the first error.
func (r *reader) fail(flag string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("--%s: %w", flag, err)
	}
}

// each reads every value of a list flag.
func (r *reader) each(flag string, read func(string) error) {
	for _, v := range listOf(r.c, flag) {
		r.fail(flag, read(v))
	}
}

// one reads a flag's value when it was given.
func (r *reader) one(flag string, read func(string) error) {
	if v := r.c.String(flag); v != "" {
		r.fail(flag, read(v))
	}
}

// attach checks -a, which names streams.
func (r *reader) attach(cfg *config.Config) {
	r.each("attach", func(s string) error {
		name := strings.ToLower(s)
		if name != "stdin" && name != "stdout" && name != "stderr" {
			return fmt.Errorf("invalid stream %q: it is stdin, stdout or stderr", s)
		}
		if cfg.Detach {
			return fmt.Errorf("conflicts with --detach")
		}
		if name == "stdin" {
			cfg.Interactive = true
		}
		cfg.Attach = append(cfg.Attach, name)
		return nil
	})
	_, err := parseDetachKeys(cfg.DetachKeys)
	r.fail("detach-keys", err)
}

// environment reads variables and labels: files first, so that what is typed wins.
func (r *reader) environment(cfg *config.Config) {
	r.each("env-file", func(path string) error {
		env, err := config.ParseEnvFile(path, os.LookupEnv)
		cfg.Env = append(cfg.Env, env...)
		return err
	})
	r.each("env", func(s string) error {
		entry, set, err := config.ParseEnv(s, os.LookupEnv)
		if err == nil && set {
			cfg.Env = append(cfg.Env, entry)
		}
		return err
	})
	labels := map[string]string{}
	r.each("label-file", func(path string) error {
		read, err := config.ParseLabelFile(path)
		for k, v := range read {
			labels[k] = v
		}
		return err
	})
	r.each("label", func(s string) error {
		k, v, err := config.ParseLabel(s)
		labels[k] = v
		return err
	})
	if len(labels) > 0 {
		cfg.Labels = labels
	}
	r.each("annotation", func(s string) error {
		k, v, err := config.ParseLabel(s)
		if cfg.Annotations == nil {
			cfg.Annotations = map[string]string{}
		}
		cfg.Annotations[k] = v
		return err
	})
}

// place puts together what the flags say of the networks: --ip and the like are about the first.
func (r *reader) place(cfg *config.Config) {
	if len(cfg.Places) > 0 {
		cfg.Network = cfg.Places[0].Network
	}
	asked := config.Place{Network: "bridge"}
	for flag, four := range map[string]bool{"ip": true, "ip6": false} {
		r.one(flag, func(s string) error { return asked.SetAddress(s, four) })
	}
	r.one("mac-address", func(s string) error { asked.MAC = s; return nil })
	asked.Aliases, asked.Links = listOf(r.c, "network-alias"), listOf(r.c, "link")
	special := asked.IPv4 != "" || asked.IPv6 != "" || asked.MAC != "" || len(asked.Aliases) > 0 || len(asked.Links) > 0
	if !cfg.Bridged() {
		_, nic := cfg.NIC()
		switch {
		case len(cfg.Places) > 1:
			r.fail("network", fmt.Errorf("%s cannot be combined with other networks", cfg.Network))
		case special && nic && asked.IPv6 == "" && len(asked.Aliases) == 0 && len(asked.Links) == 0:
			cfg.SetNIC(asked)
			_, err := config.ParseNetwork(cfg.Network)
			r.fail("network", err)
		case special && nic:
			r.fail("network", fmt.Errorf("--ip6, --network-alias and --link need a bridge network, which %s is not", cfg.Network))
		case special:
			r.fail("network", fmt.Errorf("--ip, --ip6, --mac-address, --network-alias and --link need a bridge network, which %s is not", cfg.Network))
		}
		cfg.Places = nil
		return
	}
	for i, p := range cfg.Places {
		if !(&config.Config{Network: p.Network}).Bridged() {
			r.fail("network", fmt.Errorf("%s cannot be combined with other networks", p.Network))
		}
		for _, other := range cfg.Places[:i] {
			if other.Network == p.Network {
				r.fail("network", fmt.Errorf("network %s is named twice", p.Network))
			}
		}
	}
	if !special {
		return
	}
	if len(cfg.Places) == 0 {
		cfg.Places, cfg.Network = []config.Place{asked}, asked.Network
		return
	}
	first := &cfg.Places[0]
	first.Aliases, first.Links = append(first.Aliases, asked.Aliases...), append(first.Links, asked.Links...)
	for _, v := range []struct{ to, from *string }{{&first.IPv4, &asked.IPv4}, {&first.IPv6, &asked.IPv6}, {&first.MAC, &asked.MAC}} {
		if *v.from != "" {
			*v.to = *v.from
		}
	}
}

// namespaces reads which ones are shared with whom, and what there is to say of the network.
func (r *reader) namespaces(cfg *config.Config) {
	networks := append(listOf(r.c, "network"), listOf(r.c, "net")...)
	for _, n := range networks {
		place, err := config.ParseNetwork(n)
		r.fail("network", err)
		cfg.Places = append(cfg.Places, place)
	}
	r.place(cfg)
	for _, p := range cfg.Places {
		r.fail("network", p.CheckNames())
	}
	for _, ns := range []struct {
		flag string
		to   *string
		also []string
	}{
		{"pid", &cfg.Pid, []string{"private", "host", "container:"}},
		{"ipc", &cfg.IPC, []string{"private", "shareable", "host", "none", "container:"}},
		{"uts", &cfg.UTS, []string{"private", "host"}},
		{"cgroupns", &cfg.Cgroupns, []string{"private", "host"}},
	} {
		r.one(ns.flag, func(v string) error {
			*ns.to = v
			kind, id, of := strings.Cut(v, ":")
			if of && id != "" && slices.Contains(ns.also, kind+":") || slices.Contains(ns.also, v) && !strings.HasSuffix(v, ":") {
				return nil
			}
			return fmt.Errorf("invalid namespace %q: it is %s", v, strings.ReplaceAll(strings.Join(ns.also, ", "), ":", ":NAME"))
		})
	}
	r.each("dns", config.CheckDNS)
	r.each("dns-search", config.CheckSearch)
	r.each("dns-option", config.CheckResolverOption)
	r.each("dns-opt", config.CheckResolverOption)
	r.each("add-host", func(s string) error {
		h, err := config.ParseHost(s)
		cfg.AddHost = append(cfg.AddHost, h)
		return err
	})
	r.each("publish", func(s string) error {
		p, err := config.ParsePort(s)
		if p.Host == 0 || !slices.Contains(cfg.Ports, p) { // the same one said twice is one
			cfg.Ports = append(cfg.Ports, p)
		}
		return err
	})
	r.fail("publish", config.CheckPorts(cfg.Ports))
	r.each("expose", func(s string) error {
		e, err := config.ParseExpose(s)
		cfg.Expose = append(cfg.Expose, e)
		return err
	})
}

// mounts reads -v, --mount and --tmpfs; two at one place are refused.
func (r *reader) mounts(cfg *config.Config) {
	if !r.c.IsSet("volume") && !r.c.IsSet("mount") && !r.c.IsSet("tmpfs") {
		return
	}
	cwd, err := os.Getwd()
	r.fail("volume", err)
	home := os.Getenv("HOME")
	add := func(m config.Mount, err error) error {
		if err == nil && slices.ContainsFunc(cfg.Mounts, func(o config.Mount) bool { return o.Target == m.Target }) {
			return fmt.Errorf("duplicate mount point: %s", m.Target)
		}
		cfg.Mounts = append(cfg.Mounts, m)
		return err
	}
	r.each("volume", func(s string) error { return add(config.ParseVolume(s, cwd, home)) })
	r.each("mount", func(s string) error { return add(config.ParseMount(s, cwd)) })
	r.each("tmpfs", func(s string) error { return add(config.ParseTmpfs(s)) })
}

// security reads what widens or narrows the container's rights.
func (r *reader) security(cfg *config.Config) {
	r.each("security-opt", func(s string) error { return config.ParseSecurityOpt(&cfg.Security, s) })
	r.each("device", func(s string) error {
		if config.IsCDI(s) {
			cfg.CDI = append(cfg.CDI, s)
			return nil
		}
		d, err := config.ParseDevice(s)
		cfg.Devices = append(cfg.Devices, d)
		return err
	})
	r.each("sysctl", func(s string) error {
		k, v, err := config.ParseSysctl(s)
		if cfg.Sysctls == nil {
			cfg.Sysctls = map[string]string{}
		}
		cfg.Sysctls[k] = v
		return err
	})
	r.each("ulimit", func(s string) error {
		u, err := config.ParseUlimit(s)
		cfg.Ulimits = append(cfg.Ulimits, u)
		return err
	})
}

// rest reads how the container ends and where its output goes.
func (r *reader) rest(cfg *config.Config) {
	r.one("shm-size", func(s string) (err error) {
		if cfg.ShmSize, err = config.ParseSize(s); err == nil && cfg.ShmSize < 0 {
			err = fmt.Errorf("invalid size %q: it cannot be negative", s)
		}
		return err
	})
	r.one("stop-signal", func(s string) error { _, err := config.ParseSignal(s); return err })
	r.one("stop-timeout", func(s string) error {
		n, err := strconv.Atoi(s)
		cfg.StopTimeout = &n
		return err
	})
	if d := cfg.LogDriver; !slices.Contains([]string{"", "local", "json-file", "none"}, d) {
		r.fail("log-driver", fmt.Errorf("there is no log driver %q: there are local, json-file and none", d))
	}
	options, err := parseMap("log-opt", listOf(r.c, "log-opt"))
	if err != nil && r.err == nil {
		r.err = err
	}
	if len(options) > 0 {
		cfg.LogOptions = options
	}
	r.one("hostname", config.CheckHostname)
	r.one("domainname", config.CheckHostname)
	if w := cfg.Workdir; w != "" && !strings.HasPrefix(w, "/") {
		r.fail("workdir", fmt.Errorf("the working directory %q is not an absolute path", w))
	}
	if m := cfg.Umask; m != "" {
		if _, err := strconv.ParseUint(m, 8, 12); err != nil {
			r.fail("umask", fmt.Errorf("invalid umask %q: write an octal number such as 0022", m))
		}
	}
}
