package commands

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/skiff-containers/skiff/run/config"
)

// limits reads the control group's limits. Whether this machine can apply them is for the runtime to say.
func (r *reader) limits(l *config.Limits) {
	bytes := func(flag string, to *int64) {
		r.one(flag, func(s string) (err error) { *to, err = config.ParseSize(s); return err })
	}
	bytes("memory", &l.Memory)
	bytes("memory-swap", &l.MemorySwap)
	bytes("memory-reservation", &l.MemoryReservation)
	l.Memory = max(l.Memory, 0) // -1 is no limit, as 0 is
	if l.MemorySwap > 0 && l.Memory == 0 {
		r.fail("memory-swap", errors.New("needs --memory as well"))
	}
	if l.MemorySwap > 0 && l.MemorySwap < l.Memory {
		r.fail("memory-swap", errors.New("is memory and swap together and cannot be less than --memory"))
	}
	if l.MemoryReservation > 0 && l.Memory > 0 && l.MemoryReservation > l.Memory {
		r.fail("memory-reservation", errors.New("cannot be more than --memory"))
	}
	integer := func(flag string, set func(int64) error) {
		r.one(flag, func(s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return err
			}
			return set(n)
		})
	}
	natural := func(flag string, to *uint64) {
		integer(flag, func(n int64) error {
			if n < 0 {
				return fmt.Errorf("cannot be %d", n)
			}
			*to = uint64(n)
			return nil
		})
	}
	integer("memory-swappiness", func(n int64) error {
		if n >= 0 {
			l.MemorySwappiness = &n
		}
		return nil
	})
	r.one("cpus", func(s string) (err error) { l.NanoCPUs, err = config.ParseCPUs(s); return err })
	natural("cpu-shares", &l.CPUShares)
	natural("cpu-period", &l.CPUPeriod)
	integer("cpu-quota", func(n int64) error { l.CPUQuota = n; return nil })
	if l.NanoCPUs > 0 && (l.CPUQuota > 0 || l.CPUPeriod > 0) {
		r.fail("cpus", errors.New("conflicts with --cpu-quota and --cpu-period"))
	}
	r.one("cpuset-cpus", func(s string) error { l.CPUSetCPUs = s; return nil })
	r.one("cpuset-mems", func(s string) error { l.CPUSetMems = s; return nil })
	integer("pids-limit", func(n int64) error { l.Pids = max(n, 0); return nil })
	integer("blkio-weight", func(n int64) error {
		if n != 0 && (n < 10 || n > 1000) {
			return errors.New("is 10 to 1000, or 0")
		}
		l.BlkioWeight = uint16(n)
		return nil
	})
	for _, flag := range []string{config.DeviceWeight, config.ReadBps, config.WriteBps, config.ReadIOps, config.WriteIOps} {
		r.each(flag, func(s string) error {
			b, some, err := config.ParseBlockLimit(flag, s)
			if some {
				l.Block = append(l.Block, b)
			}
			return err
		})
	}
	integer("oom-score-adj", func(n int64) error {
		if n < -1000 || n > 1000 {
			return errors.New("is -1000 to 1000")
		}
		v := int(n)
		l.OOMScoreAdj = &v
		return nil
	})
	l.OOMKillDisable = l.OOMKillDisable || r.c.Bool("oom-kill-disable")
}
