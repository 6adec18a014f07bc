package oci

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilityNames are capabilities(7) by number.
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
	"SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
	"AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

func capabilityName(c int) string {
	if c < len(capabilityNames) {
		return "CAP_" + capabilityNames[c]
	}
	return fmt.Sprintf("CAP_%d", c)
}

// capabilitySets are a process's sets as bit masks.
type capabilitySets struct {
	bounding, effective, permitted, inheritable, ambient uint64
}

// parseCapabilities turns a spec's names into masks. No capabilities in the spec means none in the process.
func parseCapabilities(c *specs.LinuxCapabilities) (capabilitySets, error) {
	var sets capabilitySets
	if c == nil {
		return sets, nil
	}
	for _, s := range []struct {
		names []string
		mask  *uint64
	}{{c.Bounding, &sets.bounding}, {c.Effective, &sets.effective}, {c.Permitted, &sets.permitted}, {c.Inheritable, &sets.inheritable}, {c.Ambient, &sets.ambient}} {
		for _, name := range s.names {
			n, ok := capabilityNumber(name)
			if !ok {
				return sets, fmt.Errorf("cannot give capability %s: unknown", name)
			}
			*s.mask |= 1 << n
		}
	}
	// A capability that this kernel does not have cannot be given (a profile made for a newer one).
	known := uint64(1)<<(lastCapability()+1) - 1
	for _, mask := range []*uint64{&sets.bounding, &sets.effective, &sets.permitted, &sets.inheritable, &sets.ambient} {
		*mask &= known
	}
	return sets, nil
}

func capabilityNumber(name string) (int, bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	for i, n := range capabilityNames {
		if n == name {
			return i, true
		}
	}
	return 0, false
}

// lastCapability is the running kernel's highest capability.
func lastCapability() int {
	c := 31
	for c < 63 {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c+1), 0, 0, 0); err != nil {
			break
		}
		c++
	}
	return c
}

// AllCapabilities are the names of all that the running kernel has.
func AllCapabilities() (names []string) {
	for c := range lastCapability() + 1 {
		names = append(names, capabilityName(c))
	}
	return names
}

// Grant takes out of a spec's sets what cannot be granted here, and says what that was, one line each: names that the kernel does not know, capabilities outside our own bounding set, and
// ambient ones that are not both permitted and inheritable (capabilities(7)). A runtime is to warn of those and go on (runtime-spec, config.md).
func Grant(c *specs.LinuxCapabilities) (warnings []string) {
	if c == nil {
		return nil
	}
	last := lastCapability()
	ours := func(name string) bool {
		n, known := capabilityNumber(name)
		if !known || n > last {
			return false
		}
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		return err == nil && in == 1
	}
	keep := func(set string, list []string, may func(string) bool) []string {
		return slices.DeleteFunc(list, func(name string) bool {
			if may(name) {
				return false
			}
			warnings = append(warnings, "cannot grant "+name+" (process.capabilities."+set+")")
			return true
		})
	}
	c.Bounding = keep("bounding", c.Bounding, ours)
	c.Permitted = keep("permitted", c.Permitted, ours)
	c.Inheritable = keep("inheritable", c.Inheritable, ours)
	c.Effective = keep("effective", c.Effective, func(name string) bool { return slices.Contains(c.Permitted, name) })
	c.Ambient = keep("ambient", c.Ambient, func(name string) bool {
		return slices.Contains(c.Permitted, name) && slices.Contains(c.Inheritable, name)
	})
	return warnings
}
