package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
)

func TestNothingAskedIsNothingMade(t *testing.T) {
	g, err := Create("x", "", config.Limits{}, nil)
	if g != nil || err != nil {
		t.Fatal(g, err)
	}
	if err := errors.Join(g.Apply(1), g.Kill(), g.Delete()); err != nil || g.OOMKills() != 0 || g.Stats() != (Stats{}) {
		t.Error("a nil group does something")
	}
}

func TestSettings(t *testing.T) {
	swappiness := int64(10)
	tests := []struct {
		name   string
		limits config.Limits
		v1, v2 string // FILE=VALUE ..., or the flag that is refused
	}{
		{"memory", config.Limits{Memory: 100}, "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=200", "memory.max=100 memory.swap.max=100"},
		{"memory and swap", config.Limits{Memory: 100, MemorySwap: 150}, "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=150", "memory.max=100 memory.swap.max=50"},
		{"unlimited swap", config.Limits{Memory: 100, MemorySwap: -1}, "memory.limit_in_bytes=100", "memory.max=100 memory.swap.max=max"},
		{"reservation", config.Limits{MemoryReservation: 7}, "memory.soft_limit_in_bytes=7", "memory.low=7"},
		{"cpus", config.Limits{NanoCPUs: 1_500_000_000}, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000", "cpu.max=150000 100000"},
		{"quota", config.Limits{CPUQuota: 5000, CPUPeriod: 20000}, "cpu.cfs_period_us=20000 cpu.cfs_quota_us=5000", "cpu.max=5000 20000"},
		{"period", config.Limits{CPUPeriod: 20000}, "cpu.cfs_period_us=20000", "cpu.max=max 20000"},
		{"least shares", config.Limits{CPUShares: 2}, "cpu.shares=2", "cpu.weight=1"},
		{"most shares", config.Limits{CPUShares: 262144}, "cpu.shares=262144", "cpu.weight=10000"},
		{"cpuset", config.Limits{CPUSetCPUs: "0-1", CPUSetMems: "0"}, "cpuset.cpus=0-1 cpuset.mems=0", "cpuset.cpus=0-1 cpuset.mems=0"},
		{"pids", config.Limits{Pids: 9}, "pids.max=9", "pids.max=9"},
		{"no pids limit", config.Limits{Pids: -1}, "", ""},
		{"blkio", config.Limits{BlkioWeight: 1000}, "blkio.bfq.weight=1000 blkio.weight=1000", "io.bfq.weight=1000 io.weight=10000"},
		{
			"rates",
			config.Limits{Block: []config.BlockLimit{{Flag: config.ReadBps, Path: "8:0", Value: 9}, {Flag: config.WriteIOps, Path: "8:16", Value: 7}}},
			"blkio.throttle.read_bps_device=8:0 9 blkio.throttle.write_iops_device=8:16 7", "io.max=8:0 rbps=9 io.max=8:16 wiops=7",
		},
		{
			"weight of a disk",
			config.Limits{Block: []config.BlockLimit{{Flag: config.DeviceWeight, Path: "8:0", Value: 10}}},
			"blkio.bfq.weight_device=8:0 10 blkio.weight_device=8:0 10", "io.bfq.weight=8:0 10 io.weight=8:0 1",
		},
		{"no disk", config.Limits{Block: []config.BlockLimit{{Flag: config.ReadBps, Path: "/dev/null", Value: 9}}}, "--device-read-bps", "--device-read-bps"},
		{"huge pages", config.Limits{HugePages: "2MB=4194304,1GB=0,"}, "hugetlb.2MB.limit_in_bytes=4194304 hugetlb.1GB.limit_in_bytes=0", "hugetlb.2MB.max=4194304 hugetlb.1GB.max=0"},
		{"swappiness", config.Limits{MemorySwappiness: &swappiness}, "memory.swappiness=10", "--memory-swappiness"},
		{"no oom kill", config.Limits{OOMKillDisable: true}, "memory.oom_control=1", "--oom-kill-disable"},
	}
	text := func(list []setting, err error) string {
		var limit *LimitError
		if errors.As(err, &limit) {
			return limit.Flag
		}
		var s []string
		for _, x := range list {
			for _, f := range x.files {
				s = append(s, f.name+"="+f.value)
			}
		}
		return strings.Join(s, " ")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(settingsV1(tt.limits)); got != tt.v1 {
				t.Errorf("v1: got %q, want %q", got, tt.v1)
			}
			if got := text(settingsV2(tt.limits)); got != tt.v2 {
				t.Errorf("v2: got %q, want %q", got, tt.v2)
			}
			if got := asked(tt.limits); got != (tt.v1 != "") {
				t.Errorf("asked: %v", got)
			}
		})
	}
}

// tree makes files that look like a group.
func tree(t *testing.T, dir, controllers, on string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cgroup.controllers": controllers, "cgroup.subtree_control": on, "cgroup.procs": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhereV2GroupsAreMade(t *testing.T) {
	pids := []setting{{flag: "--pids-limit", controller: "pids"}}
	t.Run("nearest group above", func(t *testing.T) {
		h := &Host{Unified: true, Root: t.TempDir(), self: map[string]string{"": "/user/app/scope"}}
		tree(t, filepath.Join(h.Root, "user/app/scope"), "pids", "")
		tree(t, filepath.Join(h.Root, "user/app"), "pids", "pids")
		if dir, err := h.baseV2("", pids); err != nil || dir != filepath.Join(h.Root, "user/app") {
			t.Error(dir, err)
		}
	})
	t.Run("our own when nothing above is ours", func(t *testing.T) {
		h := &Host{Unified: true, Root: t.TempDir(), self: map[string]string{"": "/scope"}}
		tree(t, filepath.Join(h.Root, "scope"), "pids memory", "memory")
		if dir, err := h.baseV2("", pids); err != nil || dir != filepath.Join(h.Root, "scope") {
			t.Error(dir, err)
		}
	})
	t.Run("controller not delegated", func(t *testing.T) {
		h := &Host{Unified: true, Root: t.TempDir(), self: map[string]string{"": "/scope"}}
		tree(t, filepath.Join(h.Root, "scope"), "memory", "")
		_, err := h.baseV2("", pids)
		var limit *LimitError
		if !errors.As(err, &limit) || !errors.Is(err, ErrNotDelegated) || limit.Flag != "--pids-limit" || !strings.Contains(limit.HintText(), "user@.service") {
			t.Error(err)
		}
	})
	t.Run("no group is ours", func(t *testing.T) {
		h := &Host{Unified: true, Root: t.TempDir(), self: map[string]string{"": "/user/session"}}
		_, err := h.baseV2("", pids)
		var limit *LimitError
		if !errors.As(err, &limit) || !errors.Is(err, ErrNotDelegated) || !strings.Contains(limit.HintText(), "systemd-run --user --scope") {
			t.Error(err)
		}
	})
	t.Run("parent asked for", func(t *testing.T) {
		h := &Host{Unified: true, Root: t.TempDir(), self: map[string]string{"": "/"}}
		tree(t, filepath.Join(h.Root, "mine"), "pids", "pids")
		if dir, err := h.baseV2("/mine", pids); err != nil || dir != filepath.Join(h.Root, "mine") {
			t.Error(dir, err)
		}
		if _, err := h.Create("x", "../mine", config.Limits{Pids: 1}, nil); err == nil {
			t.Error("a parent outside was accepted")
		}
		var limit *LimitError
		if _, err := h.baseV2("/nobodys", pids); !errors.As(err, &limit) || limit.Flag != "--cgroup-parent" {
			t.Error(err)
		}
	})
}

func TestMissingControllerIsNamed(t *testing.T) {
	h := &Host{Root: t.TempDir(), self: map[string]string{}}
	_, err := h.Create("x", "", config.Limits{Pids: 3}, nil)
	if err == nil || !strings.Contains(err.Error(), "--pids-limit") {
		t.Error(err)
	}
}

// TestV1 uses the kernel's own v1 hierarchies, where there are any and they may be written to.
func TestV1(t *testing.T) {
	h, err := Probe()
	if err != nil || h.Unified {
		t.Skip("no v1 hierarchies here")
	}
	parent := os.Getenv("SKIFF_TEST_CGROUP")
	if unix.Access(filepath.Join(h.Root, "pids", parent), unix.W_OK) != nil {
		_, err := h.Create("test", parent, config.Limits{Pids: 3}, nil)
		if !errors.Is(err, ErrNotDelegated) {
			t.Errorf("without rights: %v", err)
		}
		t.Skip("the pids hierarchy cannot be written to")
	}
	g, err := h.Create("test", parent, config.Limits{Pids: 3, NanoCPUs: 500_000_000, CPUSetCPUs: "0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dirs := g.Dirs
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Delete()); err != nil {
			t.Error(err)
		}
		for _, d := range dirs {
			if _, err := os.Stat(d); err == nil {
				t.Errorf("%s is still there", d)
			}
		}
	})
	if got := integer(filepath.Join(g.all["cpu"], "cpu.cfs_quota_us")); got != 50000 {
		t.Errorf("quota is %d", got)
	}
	// The shell and three sleeps are four processes, one too many.
	cmd := exec.Command("sh", "-c", "read go; sleep 100 & sleep 100 & sleep 100 & wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Apply(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if s := g.Stats(); s.Pids != 1 {
		t.Errorf("%d processes", s.Pids)
	}
	_ = in.Close()
	for range 200 {
		if g.Stats().Pids == 3 {
			break
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
	if s := g.Stats(); s.Pids > 3 {
		t.Errorf("%d processes where 3 are allowed", s.Pids)
	}
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
}

// TestV1Memory sets limits of memory in a group that was handed to the test; no process enters it.
func TestV1Memory(t *testing.T) {
	parent := os.Getenv("SKIFF_TEST_CGROUP")
	h, err := Probe()
	if err != nil || h.Unified || parent == "" {
		t.Skip("needs v1 hierarchies and SKIFF_TEST_CGROUP, a group in them that may be written to")
	}
	g, err := h.Create("memory-test", parent, config.Limits{Memory: 64 << 20, MemoryReservation: 32 << 20}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := g.all["memory"]
	if err := os.Mkdir(filepath.Join(dir, "nested"), 0o755); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]int64{"memory.limit_in_bytes": 64 << 20, "memory.soft_limit_in_bytes": 32 << 20} {
		if got := integer(filepath.Join(dir, name)); got != want {
			t.Errorf("%s is %d", name, got)
		}
	}
	if g.OOMKills() != 0 {
		t.Error("nobody was in it")
	}
	if err := g.Delete(); err != nil {
		t.Error(err)
	}
	// What somebody left who was killed is ended by what was noted.
	var noted []string
	if _, err = h.Create("memory-test", parent, config.Limits{Memory: 64 << 20, Pids: 3}, func(dir string) error { noted = append(noted, dir); return nil }); err != nil || len(noted) < 2 {
		t.Fatal(noted, err)
	}
	if err := os.Mkdir(filepath.Join(noted[0], "nested"), 0o755); err != nil {
		t.Error(err)
	}
	outside := t.TempDir()
	if err := End(append(noted, "/sys/fs/cgroup/memory/no/such", "", outside)); err != nil {
		t.Error(err)
	}
	for _, dir := range noted {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("what is no control group was removed")
	}
	// A value that the kernel refuses leaves nothing.
	_, err = h.Create("memory-test", parent, config.Limits{Memory: 64 << 20, MemorySwap: 32 << 20}, nil)
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Flag != "--memory-swap" {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the group is still there")
	}
}

func BenchmarkNothingAsked(b *testing.B) {
	for b.Loop() {
		if g, err := Create("x", "", config.Limits{}, nil); g != nil || err != nil {
			b.Fatal(err)
		}
	}
}

// On a hybrid machine a group in the hierarchy of v2 is made only where a process of ours may go to.
func TestHybridIsReached(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	for group, mode := range map[string]os.FileMode{"": 0o444, "u": 0o644, "u/mine": 0o644, "v": 0o644} {
		d := filepath.Join(dir, hybrid, group)
		if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, "cgroup.procs"), nil, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		own, parent string
		want        bool
	}{
		{"/u/mine", "/u", true}, {"/u", "/u/mine", true}, {"/u", "u", true}, {"/u/mine", "/v", false}, {"/", "/u", false}, {"/uv", "/u", false},
	} {
		h := &Host{Root: dir, self: map[string]string{"": tt.own}}
		if got := h.reaches(tt.parent); got != tt.want {
			t.Errorf("from %s to %s: %v", tt.own, tt.parent, got)
		}
	}
}
