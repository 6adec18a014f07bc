package bundle

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultDevices are supplied by the runtime (runtime-spec, config-linux.md, "Default Devices"); an unprivileged one binds the host's.
var defaultDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// adaptMounts is the spec's mounts as package oci takes them, with binds for devices.
func adaptMounts(s *specs.Spec) ([]specs.Mount, error) {
	var list []specs.Mount
	taken := map[string]bool{}
	wholeDev := false // /dev is the host's
	for i, m := range s.Mounts {
		m.Destination = path.Clean("/" + m.Destination)
		if m.Type == "cgroup" {
			m = cgroupMount(m)
		}
		isBind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		if isBind {
			if _, err := os.Stat(m.Source); err != nil {
				return nil, &FieldError{fmt.Sprintf("mounts[%d].source", i), err.Error()}
			}
			m.Type = "bind"
		}
		wholeDev = wholeDev || m.Destination == "/dev" && isBind
		taken[m.Destination] = true
		list = append(list, m)
	}
	devices := s.Linux.Devices
	s.Linux.Devices = nil
	for i, d := range devices {
		at := fmt.Sprintf("linux.devices[%d]", i)
		node, err := hostNode(at, d)
		if err != nil {
			return nil, err
		}
		if d.Path = path.Clean("/" + d.Path); taken[d.Path] {
			return nil, &FieldError{at + ".path", d.Path + " is there twice"}
		}
		taken[d.Path] = true
		list = append(list, bindDevice(node, d.Path))
	}
	if wholeDev {
		return list, nil
	}
	for _, d := range defaultDevices {
		if !taken[d] {
			list = append(list, bindDevice(d, d))
		}
	}
	return list, nil
}

func bindDevice(host, container string) specs.Mount {
	return specs.Mount{Destination: container, Type: "bind", Source: host, Options: []string{"bind", "nosuid", "noexec"}}
}

// hostNode finds the host's node of a device: an unprivileged runtime cannot make one, nor change its owner or mode.
func hostNode(at string, d specs.LinuxDevice) (string, error) {
	if d.Path == "" {
		return "", &FieldError{at + ".path", "there must be one"}
	}
	kinds := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}
	kind, known := kinds[d.Type]
	if !known || kind == unix.S_IFIFO {
		return "", &FieldError{at + ".type", fmt.Sprintf("%q is no device that can be bound from the host", d.Type)}
	}
	for _, node := range []string{d.Path, nodeOf(d)} {
		var st unix.Stat_t
		if node == "" || unix.Stat(node, &st) != nil || st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
			continue
		}
		switch {
		case d.FileMode != nil && uint32(d.FileMode.Perm()) != st.Mode&0o777:
			return "", &FieldError{at + ".fileMode", fmt.Sprintf("%s has %#o on the host, which only root can change", node, st.Mode&0o777)}
		case d.UID != nil && *d.UID != st.Uid && st.Uid != overflow("uid"):
			return "", &FieldError{at + ".uid", fmt.Sprintf("%s is %d's, which only root can change", node, st.Uid)}
		case d.GID != nil && *d.GID != st.Gid && st.Gid != overflow("gid"):
			return "", &FieldError{at + ".gid", fmt.Sprintf("%s is group %d's, which only root can change", node, st.Gid)}
		}
		return node, nil
	}
	return "", &FieldError{at, fmt.Sprintf("the host has no node for device %s %d:%d, and only root can make one", d.Type, d.Major, d.Minor)}
}

// nodeOf is where the kernel says that a device's node is (sysfs).
func nodeOf(d specs.LinuxDevice) string {
	kind := "char"
	if d.Type == "b" {
		kind = "block"
	}
	data, err := os.ReadFile(fmt.Sprintf("/sys/dev/%s/%d:%d/uevent", kind, d.Major, d.Minor))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name
		}
	}
	return ""
}

// overflow is the id that stands for those that a user namespace does not map.
func overflow(kind string) uint32 {
	data, err := os.ReadFile("/proc/sys/kernel/overflow" + kind)
	if err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32); err == nil {
			return uint32(n)
		}
	}
	return 65534
}

// cgroupMount is a mount of type cgroup: of the v2 hierarchy a new one, which shows the container's cgroup namespace; the hierarchies of v1 are not ours to mount, so they are the host's, read-only.
func cgroupMount(m specs.Mount) specs.Mount {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		m.Type, m.Source = "cgroup2", "cgroup"
		return m
	}
	m.Type, m.Source = "bind", "/sys/fs/cgroup"
	m.Options = []string{"rbind", "nosuid", "noexec", "nodev", "rro"}
	return m
}
