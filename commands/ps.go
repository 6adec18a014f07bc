package commands

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/record"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Usage: "List containers",
		Flags: []cli.Flag{
			option{"all", "a", "", "Show all containers (default shows just running)", ""},
			option{"filter", "f", "filter", "Filter output based on conditions provided", ""},
			option{"format", "", "string", formatUsage, ""},
			option{"last", "n", "int", "Show n last created containers (includes all states)", "-1"},
			option{"latest", "l", "", "Show the latest created container (includes all states)", ""},
			option{"no-trunc", "", "", "Don't truncate output", ""},
			option{"quiet", "q", "", "Only display container IDs", ""},
			option{"size", "s", "", "Display total file sizes", ""},
		},
		Action: ps,
	}
}

// formatUsage is the help of --format for listings.
const formatUsage = "Format output: 'table' with column headers (default), 'table TEMPLATE' likewise from a Go template, 'json', or a Go 'TEMPLATE' for each line"

func ps(c *cli.Context) error {
	size := c.Bool("size") || strings.Contains(c.String("format"), ".Size")
	if p := programOf(c); size && p.life == Front {
		return p.inside() // what a container wrote is readable only there
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	f, err := parseFilters(listOf(c, "filter"), containerFilterKeys()...)
	if err != nil {
		return err
	}
	last := c.Int("last")
	if c.Bool("latest") {
		last = 1
	}
	all, listErr := h.List(c.Context) // what can be read is shown even when some record cannot
	keep, err := containerFilter(h, all, f, c.Bool("all") || last > 0)
	if err != nil {
		return err
	}
	var rows []containerRow
	now := time.Now()
	for _, t := range all {
		if last > 0 && len(rows) == last {
			break
		}
		if !keep(t) {
			continue
		}
		r := newContainerRow(t, now, c.Bool("no-trunc"))
		if size {
			r.Size = sizeText(h, t)
		}
		rows = append(rows, r)
	}
	return errors.Join(printContainers(c, rows, size), listErr)
}

func printContainers(c *cli.Context, rows []containerRow, size bool) error {
	format := c.String("format")
	if c.Bool("quiet") && format == "" {
		for _, r := range rows {
			if _, err := fmt.Fprintln(c.App.Writer, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	l := listing[containerRow]{
		columns: []column{
			{"CONTAINER ID", "ID"},
			{"IMAGE", "Image"},
			{"COMMAND", "Command"},
			{"CREATED", "RunningFor"},
			{"STATUS", "Status"},
			{"PORTS", "Ports"},
			{"NAMES", "Names"},
		},
		headers: map[string]string{"CreatedAt": "CREATED AT", "LocalVolumes": "LOCAL VOLUMES", "Size": "SIZE"},
		cells: func(r containerRow) []string {
			cells := []string{r.ID, r.Image, r.Command, r.RunningFor, r.Status, r.Ports, r.Names}
			if size {
				cells = append(cells, r.Size)
			}
			return cells
		},
	}
	if size {
		l.columns = append(l.columns, column{"SIZE", "Size"})
	}
	return l.print(c.App.Writer, format, rows)
}

// containerRow is a line of ps: the fields of its --format.
type containerRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Platform, Ports, RunningFor, Size, State, Status string

	labels map[string]string
}

// Label is one label's value.
func (r containerRow) Label(name string) string { return r.labels[name] }

func newContainerRow(t run.Container, now time.Time, whole bool) containerRow {
	command := strings.Join(append([]string{t.Path}, t.Args...), " ")
	r := containerRow{
		Command: strconv.Quote(command), CreatedAt: t.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		ID: t.ID, Image: first(t.Config.Image, t.ImageName), Labels: labelText(t.Config.Labels), LocalVolumes: strconv.Itoa(len(t.Volumes)),
		Mounts: mountNames(t.Container, whole), Names: t.Name, Networks: strings.Join(networkNames(&t.Config), ","), Platform: t.Config.Platform,
		Ports: portText(t), RunningFor: humanDuration(now.Sub(t.Created)) + " ago", Size: "0B",
		State: stateText(t.Status), Status: statusText(t.Status, now), labels: t.Config.Labels,
	}
	if !whole {
		r.ID, r.Command = shortID(r.ID), `"`+ellipsis(command, 20)+`"`
	}
	return r
}

// stateText is Docker's word for a state; a lost container is an exited one.
func stateText(s record.Status) string {
	if s.State == record.Lost {
		return string(record.Exited)
	}
	return string(s.State)
}

// statusText is the STATUS column.
func statusText(s record.Status, now time.Time) string {
	switch s.State {
	case record.Running, record.Paused:
		text := "Up"
		if s.Started != nil {
			text += " " + humanDuration(now.Sub(s.Started.At))
		}
		switch {
		case s.State == record.Paused:
			text += " (Paused)"
		case s.Health != nil && s.Health.Status == record.HealthStarting:
			text += " (health: starting)"
		case s.Health != nil:
			text += " (" + s.Health.Status + ")"
		}
		return text
	case record.Exited:
		if s.Exit != nil {
			return fmt.Sprintf("Exited (%d) %s ago", s.Exit.Code, humanDuration(now.Sub(s.Exit.At)))
		}
		return "Exited"
	case record.Lost:
		return "Exited (255) (lost: its monitor was killed or the machine went down)"
	case record.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.Exit.Code, humanDuration(now.Sub(s.Exit.At)))
	case record.Removing:
		return "Removal In Progress"
	}
	return "Created"
}
