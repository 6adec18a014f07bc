package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-containers/skiff/run/config"
)

// DefaultCapabilities is Docker's set.
var DefaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

var allCapabilities = []string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_CHOWN", "CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE",
	"CAP_MKNOD", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
	"CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// Capabilities are the sets of a container's process: bounding, permitted and effective as asked, inheritable and ambient empty (CVE-2022-24769, CVE-2022-27649).
func Capabilities(c config.Config) (*specs.LinuxCapabilities, error) {
	set, err := CapabilitySet(c)
	if err != nil {
		return nil, err
	}
	return &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set}, nil
}

// CapabilitySet is the default set with --cap-drop and then --cap-add applied, ALL first; all for --privileged.
func CapabilitySet(c config.Config) ([]string, error) {
	set := slices.Clone(DefaultCapabilities)
	if c.Privileged {
		set = slices.Clone(allCapabilities)
	}
	normal := func(names []string, flag string) (list []string, all bool, err error) {
		for _, n := range names {
			name := strings.ToUpper(n)
			if name == "ALL" {
				all = true
				continue
			}
			if !strings.HasPrefix(name, "CAP_") {
				name = "CAP_" + name
			}
			if !slices.Contains(allCapabilities, name) {
				return nil, false, fmt.Errorf("invalid --%s %q: no such capability (see capabilities(7)); ALL is all", flag, n)
			}
			list = append(list, name)
		}
		return list, all, nil
	}
	add, addAll, err := normal(c.CapAdd, "cap-add")
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := normal(c.CapDrop, "cap-drop")
	if err != nil {
		return nil, err
	}
	if addAll {
		set = slices.Clone(allCapabilities)
	}
	if dropAll {
		set = nil
	}
	set = slices.DeleteFunc(set, func(s string) bool { return slices.Contains(drop, s) })
	for _, a := range add {
		if !slices.Contains(set, a) {
			set = append(set, a)
		}
	}
	slices.Sort(set)
	return set, nil
}

// Privileged are the sets of `exec --privileged`: every capability.
func Privileged() (*specs.LinuxCapabilities, error) {
	return Capabilities(config.Config{Privileged: true})
}
