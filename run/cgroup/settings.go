package cgroup

import (
	"errors"
	"iter"
	"strconv"
	"strings"

	"github.com/skiff-containers/skiff/run/config"
)

// setting is one limit as the kernel takes it.
type setting struct {
	flag       string
	controller string
	files      []file // the first that exists and can do it
	optional   bool   // nobody asked for it by name: a kernel without the file does without
}

// file is what the kernel takes a limit by.
type file struct {
	name, value string
	needs       func() error // says what is missing for the value to have an effect; nil: nothing
}

// asked says whether any limit of a control group is asked for.
func asked(l config.Limits) bool {
	return l.Memory > 0 || l.MemorySwap != 0 || l.MemoryReservation > 0 || l.MemorySwappiness != nil || l.NanoCPUs > 0 || l.CPUShares > 0 || l.CPUPeriod > 0 ||
		l.CPUQuota > 0 || l.CPUSetCPUs != "" || l.CPUSetMems != "" || l.Pids > 0 || l.BlkioWeight > 0 || l.OOMKillDisable || l.HugePages != "" || len(l.Block) > 0
}

// hugePages is what limits of huge pages are called in errors: they have no flag.
const hugePages = "hugepageLimits"

// pageLimits are the limits of huge pages by the size of the pages.
func pageLimits(l config.Limits) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for p := range strings.SplitSeq(l.HugePages, ",") {
			if size, limit, ok := strings.Cut(p, "="); ok && !yield(size, limit) {
				return
			}
		}
	}
}

var errV2 = errors.New("cgroup v2 has nothing like it")

func number(n int64) string { return strconv.FormatInt(n, 10) }

// cpu is the quota per period in microseconds; a quota of 0 is none.
func cpu(l config.Limits) (flag string, quota, period int64) {
	flag, quota, period = "--cpu-quota", max(l.CPUQuota, 0), int64(l.CPUPeriod)
	if period == 0 {
		period = 100_000
	}
	if l.NanoCPUs > 0 {
		flag, quota = "--cpus", l.NanoCPUs*period/1e9
	} else if quota == 0 {
		flag = "--cpu-period"
	}
	return flag, quota, period
}

func settingsV1(l config.Limits) ([]setting, error) {
	var list []setting
	add := func(flag, controller, value, name string) {
		list = append(list, setting{flag: flag, controller: controller, files: []file{{name: name, value: value}}})
	}
	if l.Memory > 0 {
		add("--memory", "memory", number(l.Memory), "memory.limit_in_bytes")
	}
	switch {
	case l.MemorySwap > 0:
		add("--memory-swap", "memory", number(l.MemorySwap), "memory.memsw.limit_in_bytes")
	case l.MemorySwap == 0 && l.Memory > 0:
		// Docker's default: as much swap as memory.
		add("--memory", "memory", number(2*l.Memory), "memory.memsw.limit_in_bytes")
		list[len(list)-1].optional = true
	}
	if l.MemoryReservation > 0 {
		add("--memory-reservation", "memory", number(l.MemoryReservation), "memory.soft_limit_in_bytes")
	}
	if l.MemorySwappiness != nil {
		add("--memory-swappiness", "memory", number(*l.MemorySwappiness), "memory.swappiness")
	}
	if l.OOMKillDisable {
		add("--oom-kill-disable", "memory", "1", "memory.oom_control")
	}
	if l.NanoCPUs > 0 || l.CPUPeriod > 0 || l.CPUQuota > 0 {
		flag, quota, period := cpu(l)
		add(flag, "cpu", number(period), "cpu.cfs_period_us")
		if quota > 0 {
			add(flag, "cpu", number(quota), "cpu.cfs_quota_us")
		}
	}
	if l.CPUShares > 0 {
		add("--cpu-shares", "cpu", strconv.FormatUint(l.CPUShares, 10), "cpu.shares")
	}
	if l.CPUSetCPUs != "" {
		add("--cpuset-cpus", "cpuset", l.CPUSetCPUs, "cpuset.cpus")
	}
	if l.CPUSetMems != "" {
		add("--cpuset-mems", "cpuset", l.CPUSetMems, "cpuset.mems")
	}
	if l.Pids > 0 {
		add("--pids-limit", "pids", number(l.Pids), "pids.max")
	}
	if l.BlkioWeight > 0 {
		list = append(list, setting{flag: "--blkio-weight", controller: "blkio", files: weights("", uint64(l.BlkioWeight), false)})
	}
	for size, limit := range pageLimits(l) {
		add(hugePages, "hugetlb", limit, "hugetlb."+size+".limit_in_bytes")
	}
	block, err := blockSettings(l, false)
	return append(list, block...), err
}

func settingsV2(l config.Limits) ([]setting, error) {
	var list []setting
	add := func(flag, controller, value, name string) {
		list = append(list, setting{flag: flag, controller: controller, files: []file{{name: name, value: value}}})
	}
	switch {
	case l.MemorySwappiness != nil:
		return nil, &LimitError{"--memory-swappiness", errV2}
	case l.OOMKillDisable:
		return nil, &LimitError{"--oom-kill-disable", errV2}
	}
	if l.Memory > 0 {
		add("--memory", "memory", number(l.Memory), "memory.max")
	}
	switch {
	case l.MemorySwap > 0:
		// v2 counts swap alone, Docker's flag memory and swap together.
		add("--memory-swap", "memory", number(l.MemorySwap-l.Memory), "memory.swap.max")
	case l.MemorySwap < 0:
		add("--memory-swap", "memory", "max", "memory.swap.max")
	case l.Memory > 0:
		add("--memory", "memory", number(l.Memory), "memory.swap.max")
		list[len(list)-1].optional = true
	}
	if l.MemoryReservation > 0 {
		add("--memory-reservation", "memory", number(l.MemoryReservation), "memory.low")
	}
	if l.NanoCPUs > 0 || l.CPUPeriod > 0 || l.CPUQuota > 0 {
		flag, quota, period := cpu(l)
		value := "max"
		if quota > 0 {
			value = number(quota)
		}
		add(flag, "cpu", value+" "+number(period), "cpu.max")
	}
	if l.CPUShares > 0 {
		// 2..262144 becomes 1..10000, as every runtime does.
		shares := min(max(l.CPUShares, 2), 262144)
		add("--cpu-shares", "cpu", strconv.FormatUint(1+(shares-2)*9999/262142, 10), "cpu.weight")
	}
	if l.CPUSetCPUs != "" {
		add("--cpuset-cpus", "cpuset", l.CPUSetCPUs, "cpuset.cpus")
	}
	if l.CPUSetMems != "" {
		add("--cpuset-mems", "cpuset", l.CPUSetMems, "cpuset.mems")
	}
	if l.Pids > 0 {
		add("--pids-limit", "pids", number(l.Pids), "pids.max")
	}
	if l.BlkioWeight > 0 {
		list = append(list, setting{flag: "--blkio-weight", controller: "io", files: weights("", uint64(l.BlkioWeight), true)})
	}
	for size, limit := range pageLimits(l) {
		add(hugePages, "hugetlb", limit, "hugetlb."+size+".max")
	}
	block, err := blockSettings(l, true)
	return append(list, block...), err
}
