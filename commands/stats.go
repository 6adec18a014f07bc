package commands

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
)

func statsCommand() *cli.Command {
	return &cli.Command{
		Usage: "Display a live stream of container(s) resource usage statistics", ArgsUsage: "[CONTAINER...]",
		Description: "A container with limits is measured by its control groups. Of another one the processes that live are added up: memory is what they share in fairly,\n" +
			"CPU lacks what ended without being waited for, BLOCK I/O lacks what ended.",
		Flags: []cli.Flag{
			option{"all", "a", "", "Show all containers (default shows just running)", ""},
			option{"format", "", "string", formatUsage, ""},
			option{"no-stream", "", "", "Disable streaming stats and only pull the first result", ""},
			option{"no-trunc", "", "", "Do not truncate output", ""},
		},
		Action: stats,
	}
}

// statsRow is a line of stats: the fields of its --format.
type statsRow struct{ BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string }

// statsInterval is how long CPU time is measured for.
const statsInterval = time.Second

func stats(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	l := listing[statsRow]{
		columns: []column{
			{"CONTAINER ID", "ID"},
			{"NAME", "Name"},
			{"CPU %", "CPUPerc"},
			{"MEM USAGE / LIMIT", "MemUsage"},
			{"MEM %", "MemPerc"},
			{"NET I/O", "NetIO"},
			{"BLOCK I/O", "BlockIO"},
			{"PIDS", "PIDs"},
		},
		headers: map[string]string{"Container": "CONTAINER"},
		cells: func(r statsRow) []string {
			return []string{r.ID, r.Name, r.CPUPerc, r.MemUsage, r.MemPerc, r.NetIO, r.BlockIO, r.PIDs}
		},
	}
	before := map[string]run.Usage{}
	for first := true; ; first = false {
		chosen, err := statsTargets(c, h)
		if err != nil {
			return err
		}
		if first {
			measure(h, chosen, before)
			<-time.After(statsInterval)
		}
		now := map[string]run.Usage{}
		measure(h, chosen, now)
		rows := make([]statsRow, 0, len(chosen))
		for _, t := range chosen {
			rows = append(rows, rowOf(t, before, now, c.Bool("no-trunc")))
		}
		if !c.Bool("no-stream") && isTerminal(streamsOf(c).Out) {
			fmt.Fprint(c.App.Writer, "\033[H\033[J")
		}
		if err := l.print(c.App.Writer, c.String("format"), rows); err != nil || c.Bool("no-stream") {
			return err
		}
		before = now
		<-time.After(statsInterval)
	}
}

// statsTargets are the containers that were named, or those that run.
func statsTargets(c *cli.Context, h *run.Host) (list []run.Container, err error) {
	if c.NArg() > 0 {
		var errs []error
		for _, name := range c.Args().Slice() {
			t, err := h.Find(c.Context, name)
			errs = append(errs, err)
			list = append(list, t)
		}
		return list, errors.Join(errs...)
	}
	list, err = h.List(c.Context)
	return slices.DeleteFunc(list, func(t run.Container) bool { return !c.Bool("all") && !running(t) }), err
}

// measure fills in what can be measured; a container that does not run has no entry.
func measure(h *run.Host, list []run.Container, into map[string]run.Usage) {
	for _, t := range list {
		if u, err := h.Usage(t.Container); err == nil {
			into[t.ID] = u
		}
	}
}

func rowOf(t run.Container, before, now map[string]run.Usage, whole bool) statsRow {
	r := statsRow{
		Container: t.ID, ID: t.ID, Name: t.Name,
		CPUPerc: "--", MemUsage: "-- / --", MemPerc: "--", NetIO: "--", BlockIO: "--", PIDs: "--",
	}
	if !whole {
		r.ID, r.Container = shortID(t.ID), shortID(t.ID)
	}
	u, ok := now[t.ID]
	if !ok {
		return r
	}
	cpu := 0.0
	if b, ok := before[t.ID]; ok && u.At.After(b.At) && u.CPU > b.CPU {
		cpu = 100 * float64(u.CPU-b.CPU) / float64(u.At.Sub(b.At))
	}
	r.CPUPerc = fmt.Sprintf("%.2f%%", cpu)
	r.MemUsage = binarySize(u.Memory) + " / " + binarySize(u.Limit)
	if u.Limit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", 100*float64(u.Memory)/float64(u.Limit))
	}
	r.NetIO = humanSize(u.NetIn) + " / " + humanSize(u.NetOut)
	r.BlockIO = humanSize(u.Read) + " / " + humanSize(u.Written)
	r.PIDs = strconv.Itoa(u.Pids)
	return r
}

// binarySize is a size in units of 1024, as Docker shows memory.
func binarySize(n int64) string {
	size, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && size >= 1024 {
		size, units = size/1024, units[1:]
	}
	return strconv.FormatFloat(size, 'g', 4, 64) + units[0]
}
