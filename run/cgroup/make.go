package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// makeV1 makes a directory in the hierarchy of each controller that a limit needs.
func (h *Host) makeV1(g *Group, name, parent string, list []setting) error {
	for _, s := range list {
		if g.all[s.controller] != "" {
			continue
		}
		mount := filepath.Join(h.Root, s.controller)
		if _, err := os.Stat(mount); err != nil {
			return &LimitError{s.flag, fmt.Errorf("this machine has no %s controller", s.controller)}
		}
		base := filepath.Join(mount, h.self[s.controller])
		if parent != "" {
			base = filepath.Join(mount, parent)
		}
		if unix.Access(base, unix.W_OK) != nil {
			return &LimitError{s.flag, fmt.Errorf("the %s controller's group %s is %w", s.controller, strings.TrimPrefix(base, mount+"/"), ErrNotDelegated)}
		}
		dir := filepath.Join(base, name)
		if err := g.make(dir); err != nil {
			return &LimitError{s.flag, fmt.Errorf("cannot make a control group: %w", err)}
		}
		g.all[s.controller] = dir
		g.Dirs = append(g.Dirs, dir)
		if s.controller == "cpuset" {
			// No process may enter a cpuset whose sets are empty, as a new one's are.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				value, err := os.ReadFile(filepath.Join(base, file))
				if err == nil {
					err = write(filepath.Join(dir, file), strings.TrimSpace(string(value)))
				}
				if err != nil {
					return &LimitError{s.flag, err}
				}
			}
		}
	}
	if parent != "" && len(list) == 0 {
		return h.placeV1(g, name, parent)
	}
	h.makeHybrid(g, name)
	return nil
}

// placeV1 makes a group without limits below parent in each hierarchy where that is the user's; there must be one.
func (h *Host) placeV1(g *Group, name, parent string) error {
	mounts, err := os.ReadDir(h.Root)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		base := filepath.Join(h.Root, m.Name(), parent)
		if m.Name() == "cpuset" || m.Name() == "freezer" || m.Type()&os.ModeSymlink != 0 || unix.Access(base, unix.W_OK) != nil {
			continue // a new group of cpuset takes no process, and what the freezer of v1 holds cannot be killed
		}
		if m.Name() == hybrid && !h.reaches(parent) {
			continue
		}
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return &LimitError{"--cgroup-parent", fmt.Errorf("cannot make a control group: %w", err)}
		}
		g.all[m.Name()] = dir
		g.Dirs = append(g.Dirs, dir)
	}
	if len(g.all) == 0 {
		return &LimitError{"--cgroup-parent", fmt.Errorf("the group %s is %w", parent, ErrNotDelegated)}
	}
	return nil
}

// reaches says whether a process of ours may go from our group of the hybrid machine's v2 hierarchy to one below parent: that takes the right to write to cgroup.procs of
// the nearest group that both are in (cgroups(7), "cgroup delegation").
func (h *Host) reaches(parent string) bool {
	shared := path.Join("/", parent)
	for own := path.Join("/", h.self[""]); own != shared && !strings.HasPrefix(own, strings.TrimSuffix(shared, "/")+"/"); {
		shared = path.Dir(shared)
	}
	return unix.Access(filepath.Join(h.Root, hybrid, shared, "cgroup.procs"), unix.W_OK) == nil
}

// hybrid is where machines with v1 controllers have the hierarchy of v2 besides, without controllers.
const hybrid = "unified"

// makeHybrid makes a group in that hierarchy when our own there was delegated: it can be frozen. Without it pausing goes by signals. (The freezer of v1 is not used: what
// it has frozen cannot be killed.)
func (h *Host) makeHybrid(g *Group, name string) {
	base := filepath.Join(h.Root, hybrid, h.self[""])
	if g.all[hybrid] != "" || h.self[""] == "" || !writable(base) {
		return
	}
	dir := filepath.Join(base, name)
	if g.make(dir) == nil {
		g.all[hybrid] = dir
		g.Dirs = append(g.Dirs, dir)
	}
}

// makeV2 makes one directory below a group that has, or may be given, the controllers that the limits need.
func (h *Host) makeV2(g *Group, name, parent string, list []setting) error {
	base, err := h.baseV2(parent, list)
	if err != nil {
		return err
	}
	dir := filepath.Join(base, name)
	if err := g.make(dir); err != nil {
		return fmt.Errorf("cannot make a control group: %w", err)
	}
	g.all[""] = dir
	if g.FD, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return fmt.Errorf("cannot open the control group: %w", err)
	}
	return nil
}

// make makes one group.
func (g *Group) make(dir string) error {
	if g.note != nil {
		if err := g.note(dir); err != nil {
			return err
		}
	}
	return os.Mkdir(dir, 0o755)
}

// baseV2 finds the nearest group above us, or the one asked for, that can take a child with the controllers. Moving a process needs write
// permission on the common ancestor's cgroup.procs, so a group without that is none of ours.
func (h *Host) baseV2(parent string, list []setting) (string, error) {
	var first error
	try := func(dir string) bool {
		err := enable(dir, list)
		if first == nil {
			first = err
		}
		return err == nil
	}
	if parent != "" {
		dir := filepath.Join(h.Root, parent)
		if _, err := os.Stat(dir); err != nil {
			return "", &LimitError{"--cgroup-parent", fmt.Errorf("there is no control group %s", parent)}
		}
		if !writable(dir) {
			return "", &LimitError{"--cgroup-parent", fmt.Errorf("the group %s is %w", parent, ErrNotDelegated)}
		}
		if try(dir) {
			return dir, nil
		}
		return "", first
	}
	// The group we are in comes last: it has processes, which would first have to go into a leaf.
	own := h.self[""]
	for p := path.Dir(own); own != "/" && own != "" && !h.mine; p = path.Dir(p) {
		if dir := filepath.Join(h.Root, p); writable(dir) && try(dir) {
			return dir, nil
		}
		if p == "/" {
			break
		}
	}
	if dir := filepath.Join(h.Root, own); writable(dir) {
		first = nil
		if try(dir) {
			return dir, nil
		}
		if errors.Is(first, unix.EBUSY) {
			if err := vacate(dir); err != nil {
				return "", err
			}
			if first = nil; try(dir) {
				return dir, nil
			}
		}
		return "", first
	}
	if first == nil {
		flag := "--cgroup-parent"
		if len(list) > 0 {
			flag = list[0].flag
		}
		first = &LimitError{flag, fmt.Errorf("the control group %s is %w", own, ErrNotDelegated)}
	}
	return "", first
}

func writable(dir string) bool {
	for _, name := range []string{".", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(dir, name), unix.W_OK) != nil {
			return false
		}
	}
	return true
}

// enable makes a group hand the controllers on to its children.
func enable(dir string, list []setting) error {
	has, err := words(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot use the control group %s: %w", dir, err)
	}
	on, err := words(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("cannot use the control group %s: %w", dir, err)
	}
	for _, s := range list {
		if slices.Contains(on, s.controller) {
			continue
		}
		if !slices.Contains(has, s.controller) {
			return &LimitError{s.flag, withheld{s.controller}}
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+s.controller); err != nil {
			if errors.Is(err, unix.EACCES) {
				err = fmt.Errorf("the control group %s is %w", dir, ErrNotDelegated)
			}
			return &LimitError{s.flag, err}
		}
		on = append(on, s.controller)
	}
	return nil
}

// vacate moves the processes of a group into a leaf of it: a group with processes cannot hand controllers on (cgroups(7), no internal processes).
func vacate(dir string) error {
	leaf := filepath.Join(dir, leafName)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("cannot make a control group: %w", err)
	}
	pids, err := words(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := write(filepath.Join(leaf, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot move process %s to the control group %s: %w", pid, leaf, err)
		}
	}
	return nil
}

func words(name string) ([]string, error) {
	data, err := os.ReadFile(name)
	return strings.Fields(string(data)), err
}
