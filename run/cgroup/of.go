package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Of finds the groups that were made for container id by what one of its processes is a member of; it is nil for a container that has none. The
// result is for Stats only.
func Of(pid int, id string) (*Group, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("cannot find the control groups of process %d: %w", pid, err)
	}
	h, err := Probe()
	if err != nil {
		return nil, err
	}
	return h.of(string(text), id), nil
}

// of reads /proc/PID/cgroup (cgroups(7)).
func (h *Host) of(text, id string) *Group {
	g := &Group{all: map[string]string{}, unified: h.Unified}
	for controller, path := range parseSelf(text) {
		if controller == "" && !h.Unified {
			controller = hybrid
		}
		if (controller == "") == h.Unified && strings.Contains(filepath.Base(path), id) {
			g.all[controller] = filepath.Join(h.Root, controller, path)
		}
	}
	if len(g.all) == 0 {
		return nil
	}
	return g
}

// Hierarchies are the hierarchies of v1 that the group is in, by controller, each with all of its controllers, as /proc/self/cgroup has them: whoever mounts one has to
// name them all.
func (g *Group) Hierarchies() (map[string][]string, error) {
	if g == nil || g.unified {
		return nil, nil
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("cannot read this process's control groups: %w", err)
	}
	return g.hierarchies(string(text)), nil
}

func (g *Group) hierarchies(text string) map[string][]string {
	found := make(map[string][]string)
	for line := range strings.Lines(text) {
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 || strings.Contains(f[1], "=") {
			continue
		}
		all := strings.Split(f[1], ",")
		for _, controller := range all {
			if g.all[controller] != "" {
				found[controller] = all
			}
		}
	}
	return found
}
