package run

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/processes"
	"github.com/skiff-containers/skiff/storage/record"
)

// Usage is what a running container uses at one moment.
type Usage struct {
	At            time.Time
	CPU           time.Duration // since its start
	Memory, Limit int64         // bytes; without a control group what the processes share in fairly (Pss); the limit is the machine's memory for a container without one
	NetIn, NetOut int64         // bytes, of its own interfaces but loopback
	Read, Written int64         // bytes from and to disks, by the processes that live
	Pids          int
}

// ticksPerSecond is USER_HZ, in which proc_pid_stat(5) counts; it is 100 on every architecture that Go knows of.
const ticksPerSecond = 100

// Usage measures a running container: by its control groups where it has some, else by its processes in /proc; of those that ended, only what
// their parents have waited for is still in the sum. The caller is inside the user namespace.
func (h *Host) Usage(c *record.Container) (Usage, error) {
	list, err := processes.List(h.Records, c)
	if err != nil {
		return Usage{}, err
	}
	st, err := h.Records.Status(c.ID)
	if err != nil || st.Started == nil {
		return Usage{}, err
	}
	u := Usage{At: time.Now(), Limit: c.Config.Limits.Memory, Pids: len(list)}
	var group cgroup.Stats
	if g, err := cgroup.Of(st.Started.Pid, c.ID); err == nil {
		group = g.Stats()
	}
	var ticks uint64
	for _, p := range list {
		ticks += p.Ticks
		dir := "/proc/" + strconv.Itoa(p.Pid) + "/"
		io := keyed(dir + "io")
		u.Read, u.Written = u.Read+io["read_bytes"], u.Written+io["write_bytes"]
		if group.Memory == 0 {
			u.Memory += keyed(dir + "smaps_rollup")["Pss"] << 10
		}
	}
	u.CPU = time.Duration(ticks) * time.Second / ticksPerSecond
	if group.CPU > 0 {
		u.CPU = group.CPU
	}
	if group.Memory > 0 {
		u.Memory = group.Memory
	}
	if group.Pids > 0 {
		u.Pids = int(group.Pids)
	}
	if u.Limit == 0 {
		u.Limit = keyed("/proc/meminfo")["MemTotal"] << 10
	}
	if c.Config.Network != "host" {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", st.Started.Pid))
		if err == nil {
			u.NetIn, u.NetOut = parseNetDev(string(text))
		}
	}
	return u, nil
}

// keyed reads a file of lines KEY: NUMBER; what cannot be read is nothing, since processes end at any time.
func keyed(name string) map[string]int64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	found := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		key, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			found[key] = n
		}
	}
	return found
}

// parseNetDev adds up the bytes of /proc/net/dev (proc_pid_net(5)) but for loopback.
func parseNetDev(text string) (in, out int64) {
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(f) < 9 {
			continue
		}
		a, err1 := strconv.ParseInt(f[0], 10, 64)
		b, err2 := strconv.ParseInt(f[8], 10, 64)
		if err1 == nil && err2 == nil {
			in, out = in+a, out+b
		}
	}
	return in, out
}
