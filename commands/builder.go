//go:build !front

package commands

// This file is builder du and builder prune.

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func builderDuCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"filter", "", "filter", "Only what was not used for a time, or is some thing: until=DURATION (24h), id=ID, type=regular|exec.cachemount", ""},
		option{"format", "", "string", "Format output: json, or a Go template", ""},
		option{"verbose", "", "", "Say all of each one", ""},
	}
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		var o build.PruneOptions
		if err := cacheFilters(c, &o); err != nil {
			return misused{err}
		}
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			list, err := build.Usage(s, o)
			if err != nil {
				return err
			}
			return printUsage(c, list)
		})
	}
}

// usageRow is one line of builder du, with the fields of docker buildx du besides the kind in plain words.
type usageRow struct {
	ID, Kind, Type, Description string
	Size, LastUsedAt            string
	Parents                     []string
}

func usageListing() listing[usageRow] {
	return listing[usageRow]{
		columns: []column{{"ID", "ID"}, {"KIND", "Kind"}, {"SIZE", "Size"}, {"LAST USED", "LastUsedAt"}, {"NAME", "Description"}},
		cells:   func(u usageRow) []string { return []string{u.ID, u.Kind, u.Size, u.LastUsedAt, u.Description} },
	}
}

func printUsage(c *cli.Context, list []snap.Usage) error {
	var total int64
	var rows []usageRow
	for _, u := range list {
		total += u.Size
		ago := time.Since(u.Used).Round(time.Second).String() + " ago"
		rows = append(rows, usageRow{u.ID, u.Kind, u.Type(), u.Title(), humanSize(u.Size), ago, u.Parents})
	}
	w, format := c.App.Writer, c.String("format")
	if c.Bool("verbose") && format == "" {
		format = "ID: {{.ID}}\nType: {{.Type}}\nDescription: {{.Description}}\nSize: {{.Size}}\nLast used: {{.LastUsedAt}}\nParents: {{join .Parents \", \"}}\n"
	}
	if err := usageListing().print(w, format, rows); err != nil || format != "" && !c.Bool("verbose") {
		return err
	}
	_, err := fmt.Fprintf(w, "Total:\t%s\n", humanSize(total))
	return err
}

func builderPruneCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"all", "a", "", "Remove cache mounts as well, not only steps", ""},
		option{"filter", "", "filter", "Only what was not used for a time, or is some thing: until=DURATION (24h), id=ID, type=regular|exec.cachemount", ""},
		option{"force", "f", "", "Accepted for compatibility: nothing is asked", ""},
		option{"keep-storage", "", "bytes", "As --reserved-space", ""},
		option{"max-used-space", "", "bytes", "How much the cache may take: the longest unused goes until it does", ""},
		option{"min-free-space", "", "bytes", "How much is to be free on the disk", ""},
		option{"reserved-space", "", "bytes", "How much of the cache stays in any case", ""},
	}
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		o, err := pruneOptions(c)
		if err != nil {
			return misused{err}
		}
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			done, err := build.Prune(s, o)
			var total int64
			for _, u := range done {
				total += u.Freed
				fmt.Fprintln(c.App.Writer, u.ID)
			}
			if err == nil {
				_, err = fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", humanSize(total))
			}
			return err
		})
	}
}

// pruneOptions reads the flags of builder prune.
func pruneOptions(c *cli.Context) (build.PruneOptions, error) {
	o := build.PruneOptions{All: c.Bool("all")}
	if err := cacheFilters(c, &o); err != nil {
		return o, err
	}
	for _, size := range []struct {
		flag string
		to   *int64
	}{{"keep-storage", &o.Reserved}, {"reserved-space", &o.Reserved}, {"max-used-space", &o.Max}, {"min-free-space", &o.Free}} {
		text := c.String(size.flag)
		if text == "" {
			continue
		}
		n, err := config.ParseSize(text)
		if err == nil && n < 0 {
			err = errors.New("it cannot be less than nothing")
		}
		if err != nil {
			return o, fmt.Errorf("cannot use --%s %s: %w", size.flag, text, err)
		}
		*size.to = n
	}
	return o, nil
}

// cacheFilters reads --filter of builder du and builder prune.
func cacheFilters(c *cli.Context, o *build.PruneOptions) error {
	for _, f := range listOf(c, "filter") {
		key, value, _ := strings.Cut(f, "=")
		var err error
		switch {
		case key == "until":
			if o.Age, err = time.ParseDuration(value); err != nil {
				return fmt.Errorf("cannot use --filter %s: %w", f, err)
			}
		case key == "id" && value != "":
			o.IDs = append(o.IDs, value)
		case key == "type" && (value == "regular" || value == "exec.cachemount"):
			o.Types = append(o.Types, value)
		default:
			return fmt.Errorf("cannot use --filter %s: it is until=DURATION, id=ID, type=regular or type=exec.cachemount", f)
		}
	}
	return nil
}
