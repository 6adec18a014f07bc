package spec

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const cgroupDir = "/sys/fs/cgroup"

// MountCgroupV1 adds the hierarchies of cgroup v1 in which the container has a group of its own, so that programs find their limits where Docker has them. They are by
// controller, each with all the controllers that the hierarchy has. A container that sees the host's control groups, or has something else there, gets none.
func MountCgroupV1(s *specs.Spec, hierarchies map[string][]string) {
	at := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys" && m.Type == "sysfs" })
	own := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace && n.Path == "" })
	taken := slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == cgroupDir || m.Destination == "/sys/fs" })
	if at < 0 || !own || taken || len(hierarchies) == 0 {
		return
	}
	mode := "ro"
	if slices.Contains(s.Mounts[at].Options, "rw") {
		mode = "rw"
	}
	list := []specs.Mount{{Destination: cgroupDir, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "nodev", "mode=755", "size=64k"}}}
	names := make([]string, 0, len(hierarchies))
	for name := range hierarchies {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list = append(list, specs.Mount{
			Destination: path.Join(cgroupDir, name), Type: "cgroup", Source: "cgroup",
			Options: append([]string{"nosuid", "noexec", "nodev", mode}, hierarchies[name]...),
		})
	}
	s.Mounts = slices.Insert(s.Mounts, at+1, list...)
	if mode == "ro" {
		s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, cgroupDir)
	}
}
