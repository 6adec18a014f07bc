package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
)

// joinRounds is how often a container's processes are looked at until all of them are in new groups: what runs may fork.
const joinRounds = 100

// freezeRounds is how many milliseconds the kernel has to stop a container's processes.
const freezeRounds = 2000

// Update applies the limits of now to a running container that had those of old, and returns its groups: g itself, or new ones when it was nil. id, parent and note are as
// for Create. Controllers that had nothing to do before get groups, which the processes that members lists enter. On error some of the new limits may be in force.
func Update(g *Group, id, parent string, old, now config.Limits, note Note, members func() []int) (*Group, error) {
	h, err := Probe()
	if err != nil {
		return g, err
	}
	return h.Update(g, id, parent, old, now, note, members)
}

// Update is the package's Update on a machine that has been looked at.
func (h *Host) Update(g *Group, id, parent string, old, now config.Limits, note Note, members func() []int) (*Group, error) {
	if g == nil {
		made, err := h.Create(id, parent, now, note)
		if err != nil || made == nil {
			return nil, err
		}
		if err := made.gather(members); err != nil {
			return nil, errors.Join(err, made.Delete())
		}
		return made, nil
	}
	list, err := h.settings(now)
	if err != nil {
		return g, err
	}
	list = append(list, h.lifted(old, now)...)
	if h.Unified {
		err = enable(filepath.Dir(g.all[""]), list)
	} else {
		before := len(g.Dirs)
		if err = h.makeV1(g, "skiff-"+id, parent, list); err == nil && len(g.Dirs) > before {
			err = g.gather(members)
		}
	}
	if err != nil {
		return g, err
	}
	if err = g.apply(list); errors.Is(err, unix.EINVAL) {
		// v1 refuses a limit of memory above that of memory and swap together: what grows wants the other order.
		slices.Reverse(list)
		err = g.apply(list)
	}
	return g, err
}

// settings are the limits as this machine takes them.
func (h *Host) settings(l config.Limits) ([]setting, error) {
	if h.Unified {
		return settingsV2(l)
	}
	return settingsV1(l)
}

// lifted are the limits that there were and that are no more.
func (h *Host) lifted(old, now config.Limits) (list []setting) {
	lift := func(had, has bool, flag, v1, v2 string) {
		at := v1
		if h.Unified {
			at = v2
		}
		if name, value, ok := strings.Cut(at, "="); ok && had && !has {
			controller, _, _ := strings.Cut(name, ".")
			list = append(list, setting{flag: flag, controller: controller, files: []file{{name: name, value: value}}, optional: true})
		}
	}
	// Memory and swap together first: v1 takes no limit of memory above it.
	lift(old.Memory > 0 || old.MemorySwap > 0, now.MemorySwap > 0 || now.Memory > 0 && now.MemorySwap >= 0, "--memory-swap", "memory.memsw.limit_in_bytes=-1", "memory.swap.max=max")
	lift(old.Memory > 0, now.Memory > 0, "--memory", "memory.limit_in_bytes=-1", "memory.max=max")
	lift(old.MemoryReservation > 0, now.MemoryReservation > 0, "--memory-reservation", "memory.soft_limit_in_bytes=-1", "memory.low=0")
	lift(old.NanoCPUs > 0 || old.CPUQuota > 0, now.NanoCPUs > 0 || now.CPUQuota > 0, "--cpus", "cpu.cfs_quota_us=-1", "cpu.max=max")
	lift(old.CPUShares > 0, now.CPUShares > 0, "--cpu-shares", "cpu.shares=1024", "cpu.weight=100")
	lift(old.Pids > 0, now.Pids > 0, "--pids-limit", "pids.max=max", "pids.max=max")
	lift(old.BlkioWeight > 0, now.BlkioWeight > 0, "--blkio-weight", "blkio.bfq.weight=100", "io.bfq.weight=100")
	lift(old.BlkioWeight > 0, now.BlkioWeight > 0, "--blkio-weight", "blkio.weight=500", "io.weight=100")
	return list
}

// gather moves processes into the groups, until a look at them finds all there.
func (g *Group) gather(members func() []int) error {
	dirs := g.Dirs
	if g.unified {
		dirs = []string{g.all[""]}
	}
	for range joinRounds {
		moved := 0
		pids := members()
		for _, dir := range dirs {
			there, err := words(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				return fmt.Errorf("cannot read the control group %s: %w", dir, err)
			}
			for _, pid := range pids {
				p := strconv.Itoa(pid)
				if slices.Contains(there, p) {
					continue
				}
				err := write(filepath.Join(dir, "cgroup.procs"), p)
				if errors.Is(err, unix.ESRCH) {
					continue // it has ended
				}
				if err != nil {
					return fmt.Errorf("cannot put process %d into the control group %s: %w", pid, dir, err)
				}
				moved++
			}
		}
		if moved == 0 {
			return nil
		}
	}
	return errors.New("cannot put the container's processes into a control group: there are new ones all the time")
}

// Freezes says whether the kernel can stop the processes of the groups.
func (g *Group) Freezes() bool {
	if g.freezer() == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(g.freezer(), "cgroup.freeze"))
	return err == nil
}

// Freeze stops all processes of the groups, or lets them go on (cgroup-v2.rst, cgroup.freeze). It returns when that is so.
func (g *Group) Freeze(stop bool) error {
	dir, text, want := g.freezer(), "0", int64(0)
	if stop {
		text, want = "1", 1
	}
	if err := write(filepath.Join(dir, "cgroup.freeze"), text); err != nil {
		return err
	}
	for range freezeRounds {
		if value(filepath.Join(dir, "cgroup.events"), "frozen") == want {
			return nil
		}
		<-time.After(time.Millisecond)
	}
	return fmt.Errorf("the processes of %s do not stop", dir)
}

// freezer is the group of the hierarchy of v2; "" without one.
func (g *Group) freezer() string {
	switch {
	case g == nil:
		return ""
	case g.unified:
		return g.all[""]
	}
	return g.all[hybrid]
}
