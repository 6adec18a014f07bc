package cgroup

// Limits of block devices: rates (io.max of cgroup v2, blkio.throttle.* of v1) and shares by weight, for which a scheduler of the disks must exist that weighs.

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
)

// blockSettings are the limits of single devices, as the kernel takes them.
func blockSettings(l config.Limits, unified bool) ([]setting, error) {
	var list []setting
	for _, b := range l.Block {
		flag := "--" + b.Flag
		device, err := deviceNumber(b.Path)
		if err != nil {
			return nil, &LimitError{flag, err}
		}
		s := setting{flag: flag, controller: "blkio"}
		if unified {
			s.controller = "io"
		}
		value := strconv.FormatUint(b.Value, 10)
		names := map[string][2]string{ // of v1, and as a word of io.max
			config.ReadBps: {"read_bps", "rbps"}, config.WriteBps: {"write_bps", "wbps"},
			config.ReadIOps: {"read_iops", "riops"}, config.WriteIOps: {"write_iops", "wiops"},
		}
		switch rate, isRate := names[b.Flag]; {
		case isRate && unified:
			s.files = []file{{name: "io.max", value: device + " " + rate[1] + "=" + value}}
		case isRate:
			s.files = []file{{name: "blkio.throttle." + rate[0] + "_device", value: device + " " + value}}
		case b.Flag == config.DeviceWeight:
			s.files = weights(device, b.Value, unified)
		default:
			return nil, fmt.Errorf("cannot limit %s: there is no limit %q of a device", b.Path, b.Flag)
		}
		list = append(list, s)
	}
	return list, nil
}

// weights are the files that take a share of the disks (device ""), or of one: bfq's, and that of whatever else weighs.
func weights(device string, weight uint64, unified bool) []file {
	weight = min(max(weight, 10), 1000)
	bfq := func() error { return weighsBFQ(device) }
	prefix := ""
	if device != "" {
		prefix = device + " "
	}
	plain := prefix + strconv.FormatUint(weight, 10)
	if unified {
		// 10..1000 becomes 1..10000, as every runtime does.
		return []file{
			{name: "io.bfq.weight", value: plain, needs: bfq},
			{name: "io.weight", value: prefix + strconv.FormatUint(1+(weight-10)*9999/990, 10), needs: func() error { return weighsCost(device) }},
		}
	}
	if device != "" {
		return []file{{name: "blkio.bfq.weight_device", value: plain, needs: bfq}, {name: "blkio.weight_device", value: plain}}
	}
	return []file{{name: "blkio.bfq.weight", value: plain, needs: bfq}, {name: "blkio.weight", value: plain}}
}

// deviceNumber is MAJOR:MINOR of a block device's node; what is written that way already is left.
func deviceNumber(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return path, nil // the OCI command line's
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is no block device: findmnt -T says which one a directory is on", path)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	at := "/sys/dev/block/" + number
	if _, err := os.Stat(at + "/partition"); err == nil {
		if at, err = filepath.EvalSymlinks(at); err == nil {
			return "", fmt.Errorf("%s is a partition and the kernel limits whole disks: name /dev/%s", path, filepath.Base(filepath.Dir(at)))
		}
	}
	return number, nil
}

// errNothingWeighs says that the kernel would take a weight, and nothing would come of it.
var errNothingWeighs = errors.New("the disk's input and output is not shared out by weight: its scheduler is not bfq")

// weighsBFQ says whether the scheduler of a disk, or of any (""), is bfq.
func weighsBFQ(device string) error {
	files := []string{"/sys/dev/block/" + device + "/queue/scheduler"}
	if device == "" {
		files, _ = filepath.Glob("/sys/block/*/queue/scheduler") // the pattern is a good one
	}
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "[bfq]") {
			return nil
		}
	}
	return errNothingWeighs
}

// weighsCost says whether the kernel's model of costs is at work on a disk, or on any (""): cgroup-v2.rst, io.cost.qos.
func weighsCost(device string) error {
	f, err := os.Open(filepath.Join(root, "io.cost.qos"))
	if err != nil {
		return errNothingWeighs
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if on := strings.Contains(s.Text(), "enable=1"); on && (device == "" || strings.HasPrefix(s.Text(), device+" ")) {
			return nil
		}
	}
	return errNothingWeighs
}
