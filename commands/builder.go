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
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func builderDuCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{option{"verbose", "", "", "Accepted for compatibility", ""}}
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			list, err := build.Usage(s)
			if err != nil {
				return err
			}
			var total int64
			w := c.App.Writer
			fmt.Fprintf(w, "%-34s%-13s%-12s%-16s%s\n", "ID", "KIND", "SIZE", "LAST USED", "NAME")
			for _, u := range list {
				total += u.Size
				fmt.Fprintf(w, "%-34s%-13s%-12s%-16s%s\n", u.ID, u.Kind, humanSize(u.Size), time.Since(u.Used).Round(time.Second).String()+" ago", u.Title())
			}
			_, err = fmt.Fprintf(w, "Total:\t%s\n", humanSize(total))
			return err
		})
	}
}

func builderPruneCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"all", "a", "", "Remove cache mounts as well, not only steps", ""},
		option{"filter", "", "filter", "Only what is older: until=DURATION (24h)", ""},
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
	for _, f := range listOf(c, "filter") {
		age, ok := strings.CutPrefix(f, "until=")
		if !ok {
			return o, fmt.Errorf("cannot use --filter %s: it is until=DURATION", f)
		}
		var err error
		if o.Age, err = time.ParseDuration(age); err != nil {
			return o, fmt.Errorf("cannot use --filter %s: %w", f, err)
		}
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
