package bundle

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/config"
)

// makeGroups makes the container's control groups with the spec's limits in place, and returns their directories. Without limits none are made, whatever linux.cgroupsPath says: where an
// ordinary user's processes are counted without being limited is no business of ours, and most often not permitted.
func makeGroups(id string, s *specs.Spec) ([]string, error) {
	if s.Linux == nil || s.Linux.Resources == nil {
		return nil, nil
	}
	limits, err := limitsOf(s.Linux.Resources)
	if err != nil {
		return nil, err
	}
	if limits.Equal(config.Limits{}) {
		return nil, nil
	}
	at := s.Linux.CgroupsPath
	if at == "" {
		at = "skiff-oci-" + id
	}
	g, err := cgroup.CreateAt(at, limits)
	var limit *cgroup.LimitError
	if errors.As(err, &limit) && limitFields[limit.Flag] != "" {
		return nil, &FieldError{"linux.resources." + limitFields[limit.Flag], limit.Err.Error()}
	}
	if err != nil {
		return nil, &FieldError{"linux.cgroupsPath", err.Error()}
	}
	return g.Paths(), nil
}

// limitFields are package cgroup's names of limits, which are flags of skiff's, as fields of linux.resources.
var limitFields = map[string]string{
	"--memory": "memory.limit", "--memory-swap": "memory.swap", "--memory-reservation": "memory.reservation", "--memory-swappiness": "memory.swappiness",
	"--oom-kill-disable": "memory.disableOOMKiller", "--cpu-shares": "cpu.shares", "--cpu-quota": "cpu.quota", "--cpu-period": "cpu.period",
	"--cpuset-cpus": "cpu.cpus", "--cpuset-mems": "cpu.mems", "--pids-limit": "pids.limit", "--blkio-weight": "blockIO.weight",
	"--blkio-weight-device": "blockIO.weightDevice", "--device-read-bps": "blockIO.throttleReadBpsDevice", "--device-write-bps": "blockIO.throttleWriteBpsDevice",
	"--device-read-iops": "blockIO.throttleReadIOPSDevice", "--device-write-iops": "blockIO.throttleWriteIOPSDevice",
	"hugepageLimits": "hugepageLimits",
}

// limitsOf turns the spec's limits into ours, and refuses those that we have not. Rules for devices are met without doing anything: an unprivileged container has the nodes that it was given, and can make none.
func limitsOf(r *specs.LinuxResources) (l config.Limits, err error) {
	m, c, b := r.Memory, r.CPU, r.BlockIO
	if m == nil {
		m = &specs.LinuxMemory{}
	}
	if c == nil {
		c = &specs.LinuxCPU{}
	}
	if b == nil {
		b = &specs.LinuxBlockIO{}
	}
	const no = "not supported"
	if err := first([]refused{
		{"linux.resources.memory.kernel", positive(m.Kernel), no}, //nolint:staticcheck // it is refused
		{"linux.resources.memory.kernelTCP", positive(m.KernelTCP), no},
		{"linux.resources.memory.useHierarchy", m.UseHierarchy != nil && !*m.UseHierarchy, no},
		{"linux.resources.memory.checkBeforeUpdate", m.CheckBeforeUpdate != nil && *m.CheckBeforeUpdate, no},
		{"linux.resources.cpu.burst", positive(c.Burst), no},
		{"linux.resources.cpu.realtimeRuntime", positive(c.RealtimeRuntime), no},
		{"linux.resources.cpu.realtimePeriod", positive(c.RealtimePeriod), no},
		{"linux.resources.cpu.idle", positive(c.Idle), no},
		{"linux.resources.blockIO.leafWeight", positive(b.LeafWeight), no},
		{"linux.resources.blockIO.weightDevice", slices.ContainsFunc(b.WeightDevice, func(d specs.LinuxWeightDevice) bool { return positive(d.LeafWeight) }), "a leafWeight is " + no},
		{"linux.resources.hugepageLimits", slices.ContainsFunc(r.HugepageLimits, notPageSize), "a pageSize is written such as 2MB"},
		{"linux.resources.rdma", len(r.Rdma) > 0, no},
		{"linux.resources.unified", len(r.Unified) > 0, no},
		{"linux.resources.network", r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0), no},
	}); err != nil {
		return l, err
	}
	take(&l.Memory, m.Limit)
	take(&l.MemorySwap, m.Swap)
	take(&l.MemoryReservation, m.Reservation)
	if m.Swappiness != nil {
		n := int64(*m.Swappiness)
		l.MemorySwappiness = &n
	}
	l.OOMKillDisable = m.DisableOOMKiller != nil && *m.DisableOOMKiller
	take(&l.CPUShares, c.Shares)
	take(&l.CPUQuota, c.Quota)
	take(&l.CPUPeriod, c.Period)
	l.CPUSetCPUs, l.CPUSetMems = c.Cpus, c.Mems
	if r.Pids != nil {
		take(&l.Pids, r.Pids.Limit)
	}
	take(&l.BlkioWeight, b.Weight)
	l.Block = blockLimits(b)
	for _, p := range r.HugepageLimits {
		l.HugePages += fmt.Sprintf("%s=%d,", p.Pagesize, p.Limit)
	}
	// -1 and 0 mean no limit.
	l.Memory, l.MemoryReservation, l.CPUQuota, l.Pids = max(l.Memory, 0), max(l.MemoryReservation, 0), max(l.CPUQuota, 0), max(l.Pids, 0)
	return l, nil
}

// blockLimits are the limits of single disks; 0 is none.
func blockLimits(b *specs.LinuxBlockIO) (list []config.BlockLimit) {
	add := func(flag string, major, minor int64, value uint64) {
		if value > 0 {
			list = append(list, config.BlockLimit{Flag: flag, Path: fmt.Sprintf("%d:%d", major, minor), Value: value})
		}
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			add(config.DeviceWeight, d.Major, d.Minor, uint64(*d.Weight))
		}
	}
	for flag, devices := range map[string][]specs.LinuxThrottleDevice{
		config.ReadBps: b.ThrottleReadBpsDevice, config.WriteBps: b.ThrottleWriteBpsDevice, config.ReadIOps: b.ThrottleReadIOPSDevice, config.WriteIOps: b.ThrottleWriteIOPSDevice,
	} {
		for _, d := range devices {
			add(flag, d.Major, d.Minor, d.Rate)
		}
	}
	return list
}

// notPageSize says that a page size is not one: it becomes part of a file's name.
func notPageSize(p specs.LinuxHugepageLimit) bool {
	number := strings.TrimRight(p.Pagesize, "KMGB")
	unit := p.Pagesize[len(number):]
	return number == "" || strings.Trim(number, "0123456789") != "" || unit != "KB" && unit != "MB" && unit != "GB"
}

func positive[T int64 | uint64 | uint16](p *T) bool { return p != nil && *p > 0 }

func take[T int64 | uint64 | uint16](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// deleteGroups removes control groups, with those that the container may have made in them.
func deleteGroups(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		if err := cgroup.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot remove the control group %s: %w", path.Base(dir), err))
		}
	}
	return errors.Join(errs...)
}
