//go:build !front

package commands

// This file is builder du and builder prune.

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/snap"
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
	}
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		var age time.Duration
		for _, f := range listOf(c, "filter") {
			var err error
			if len(f) < 7 || f[:6] != "until=" {
				return fmt.Errorf("cannot use --filter %s: it is until=DURATION", f)
			}
			if age, err = time.ParseDuration(f[6:]); err != nil {
				return fmt.Errorf("cannot use --filter %s: %w", f, err)
			}
		}
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			done, err := build.Prune(s, func(u snap.Usage) bool {
				return (u.Kind == "step" || c.Bool("all")) && time.Since(u.Used) >= age
			})
			var total int64
			for _, u := range done {
				total += u.Size
				fmt.Fprintln(c.App.Writer, u.ID)
			}
			if err == nil {
				_, err = fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", humanSize(total))
			}
			return err
		})
	}
}
