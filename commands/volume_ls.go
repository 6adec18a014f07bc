package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/storage/volume"
)

func volumeLsCommand() *cli.Command {
	return &cli.Command{
		Usage: "List volumes",
		Flags: []cli.Flag{
			option{"filter", "f", "filter", `Provide filter values (e.g. "dangling=true")`, ""},
			option{"format", "", "string", formatUsage, ""},
			option{"quiet", "q", "", "Only display volume names", ""},
		},
		Action: volumeLs,
	}
}

// volumeRow is a line of volume ls: the fields of its --format.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string

	labels map[string]string
}

// Label is one label's value.
func (r volumeRow) Label(name string) string { return r.labels[name] }

func volumeLs(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	f, err := parseFilters(listOf(c, "filter"), "dangling", "driver", "label", "label!", "name")
	if err != nil {
		return err
	}
	dangling, err := f.truth("dangling", false)
	if err != nil {
		return err
	}
	list, err := h.Volumes.List()
	if err != nil {
		return err
	}
	users := map[string][]string{}
	if len(f["dangling"]) > 0 {
		if users, err = volumeUsers(h); err != nil {
			return err
		}
	}
	slices.SortFunc(list, func(a, b *volume.Volume) int { return strings.Compare(a.Name, b.Name) })
	var rows []volumeRow
	for _, v := range list {
		if !f.match("driver", func(s string) bool { return v.Driver == s }) ||
			!f.pattern("name", v.Name) ||
			!f.labels(v.Labels) || len(f["dangling"]) > 0 && dangling != (len(users[v.Name]) == 0) {
			continue
		}
		rows = append(rows, volumeRow{
			Availability: "N/A", Driver: first(v.Driver, "local"), Group: "N/A", Labels: labelText(v.Labels), Links: "N/A",
			Mountpoint: v.Mountpoint, Name: v.Name, Scope: "local", Size: "N/A", Status: "N/A", labels: v.Labels,
		})
	}
	if c.Bool("quiet") && c.String("format") == "" {
		for _, r := range rows {
			fmt.Fprintln(c.App.Writer, r.Name)
		}
		return nil
	}
	l := listing[volumeRow]{
		columns: []column{{"DRIVER", "Driver"}, {"VOLUME NAME", "Name"}},
		cells:   func(r volumeRow) []string { return []string{r.Driver, r.Name} },
	}
	return l.print(c.App.Writer, c.String("format"), rows)
}
