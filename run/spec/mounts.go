package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-containers/skiff/run/config"
)

// ttyGroup is the group of terminals on every distribution.
const ttyGroup = 5

// defaultDevices are bound from the host: an unprivileged user cannot make device nodes.
var defaultDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// mounts are the defaults, without those that the user replaces, and the user's, shallow ones first.
func mounts(in Input) ([]specs.Mount, error) {
	c := in.Config
	user, err := userMounts(in)
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, m := range user {
		if taken[m.Destination] {
			return nil, fmt.Errorf("duplicate mount point: %s", m.Destination)
		}
		taken[m.Destination] = true
	}
	all := slices.DeleteFunc(defaults(in), func(m specs.Mount) bool { return taken[m.Destination] })
	slices.SortStableFunc(user, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	all = append(all, user...)
	for _, d := range c.Devices {
		all = append(all, bindDevice(d.Host, d.Container))
	}
	return all, nil
}

func defaults(in Input) []specs.Mount {
	c := in.Config
	sysMode := "ro"
	if c.Privileged {
		sysMode = "rw"
	}
	list := []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}}
	if c.Pid == "host" {
		// A new procfs may only be mounted of a pid namespace that is ours.
		list[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if in.Mapped > ttyGroup {
		pts = append(pts, "gid="+strconv.Itoa(ttyGroup))
	}
	list = append(list,
		specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts})
	if c.Network == "host" || in.Join[specs.NetworkNamespace] != "" {
		// sysfs shows the network namespace it is mounted in, which must be ours to be allowed. Read-only all the way down: control groups that were
		// delegated to the user are mounted beneath.
		list = append(list, specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "rro"}})
	} else {
		list = append(list, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sysMode}})
		if in.CgroupV2 {
			list = append(list, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", sysMode}})
		}
	}
	if c.IPC != "host" {
		list = append(list, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	} else {
		list = append(list, specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"bind", "nosuid", "noexec", "nodev"}})
	}
	switch {
	case c.IPC == "host":
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"bind", "nosuid", "noexec", "nodev"}})
	case in.Shm:
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"bind", "nosuid", "noexec", "nodev"}})
	case c.IPC != "none":
		size := c.ShmSize
		if size == 0 {
			size = 64 << 20
		}
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}})
	}
	devices := defaultDevices
	if c.Privileged {
		devices = append(slices.Clone(devices), in.Devices...)
	}
	for _, d := range devices {
		list = append(list, bindDevice(d, d))
	}
	for _, f := range [][2]string{{in.ResolvConf, "/etc/resolv.conf"}, {in.Hosts, "/etc/hosts"}, {in.Hostname, "/etc/hostname"}} {
		if f[0] != "" {
			list = append(list, specs.Mount{Destination: f[1], Type: "bind", Source: f[0], Options: []string{"bind"}})
		}
	}
	return list
}

func bindDevice(host, container string) specs.Mount {
	return specs.Mount{Destination: container, Type: "bind", Source: host, Options: []string{"bind", "nosuid", "noexec"}}
}

// userMounts are those of -v, --mount and --tmpfs.
func userMounts(in Input) ([]specs.Mount, error) {
	var list []specs.Mount
	for _, m := range in.Config.Mounts {
		sm := specs.Mount{Destination: path.Clean(m.Target)}
		switch m.Type {
		case config.MountTmpfs:
			sm.Type, sm.Source = "tmpfs", "tmpfs"
			sm.Options = tmpfsOptions(m)
		case config.MountBind, config.MountVolume:
			sm.Type, sm.Source = "bind", m.Source
			if m.Type == config.MountVolume {
				dir, ok := in.Volumes[m.Target]
				if !ok {
					return nil, fmt.Errorf("cannot mount at %s: its volume is missing", m.Target)
				}
				sm.Source = dir
			}
			sm.Options = bindOptions(m)
		}
		list = append(list, sm)
	}
	return list, nil
}

func bindOptions(m config.Mount) []string {
	o := []string{"rbind"}
	if m.NonRecursive {
		o[0] = "bind"
	}
	if m.ReadOnly {
		if m.ReadOnlyNonRecursive || m.NonRecursive {
			o = append(o, "ro")
		} else {
			o = append(o, "rro")
		}
	}
	if m.Propagation != "" {
		o = append(o, m.Propagation)
	} else {
		o = append(o, "rprivate")
	}
	return append(o, switches(m, nil)...)
}

func tmpfsOptions(m config.Mount) []string {
	o := switches(m, []string{"nosuid", "nodev", "noexec"})
	if m.Size > 0 {
		o = append(o, "size="+strconv.FormatInt(m.Size, 10))
	}
	mode := m.Mode
	if mode == 0 {
		mode = 0o1777
	}
	o = append(o, "mode="+strconv.FormatUint(uint64(mode), 8))
	if m.ReadOnly {
		o = append(o, "ro")
	}
	return append(o, m.Options...)
}

// switches are exec, suid and dev as asked, over the defaults.
func switches(m config.Mount, o []string) []string {
	for _, s := range []struct {
		name  string
		value *bool
	}{{"exec", m.Exec}, {"suid", m.Suid}, {"dev", m.Dev}} {
		if s.value == nil {
			continue
		}
		o = slices.DeleteFunc(o, func(have string) bool { return have == "no"+s.name })
		if !*s.value {
			o = append(o, "no"+s.name)
		}
	}
	return o
}
