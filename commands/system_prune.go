//go:build !front

package commands

// This file is system prune: the prune verbs one after the other.

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func systemPruneCommand(cmd *cli.Command) {
	cmd.Flags = append(
		pruneFlags("label=<key>=<value>"),
		option{"all", "a", "", "Remove all unused images not just dangling ones", ""},
		option{"volumes", "", "", "Prune anonymous volumes", ""},
	)
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		f, err := parseFilters(listOf(c, "filter"), "until", "label", "label!")
		if err != nil {
			return err
		}
		until, err := f.until()
		if err != nil {
			return err
		}
		if len(f["until"]) > 0 && c.Bool("volumes") {
			return misused{errors.New("cannot use --filter until with --volumes: volumes are not removed by their age")}
		}
		if err := confirm(c, pruneWarning(c.Bool("all"), c.Bool("volumes"))); err != nil {
			return err
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error { return systemPrune(c, s, records, f, until) })
	}
}

func pruneWarning(all, volumes bool) string {
	text := "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
	if volumes {
		text += "  - all anonymous volumes not used by at least one container\n"
	}
	if all {
		text += "  - all images without at least one container associated to them\n"
	} else {
		text += "  - all dangling images\n"
	}
	return text + "  - unused build cache\n"
}

// systemPrune is inside the user namespace. What depends on something else goes after it: containers first.
func systemPrune(c *cli.Context, s *storage.Store, records *record.Store, f filters, until time.Time) error {
	var total int64
	var errs []error
	add := func(freed int64, err error) {
		total += freed
		errs = append(errs, err)
	}
	add(pruneContainers(c, f, until))
	add(0, pruneNetworks(c, netns.Open(records.Data, records.Run), records, f, until))
	if c.Bool("volumes") {
		add(pruneVolumes(c, f, false))
	}
	var steps []snap.Usage
	if len(f["label"])+len(f["label!"]) == 0 { // steps have no labels
		o := build.PruneOptions{}
		if len(f["until"]) > 0 {
			o.Age = time.Since(until)
		}
		var err error
		steps, err = build.Prune(s, o) // before images: what both have counts once, with the image
		errs = append(errs, err)
	}
	add(pruneImages(c, s, records, f, c.Bool("all")))
	if len(steps) > 0 {
		fmt.Fprintln(c.App.Writer, "Deleted build cache objects:")
		for _, u := range steps {
			total += u.Freed
			fmt.Fprintln(c.App.Writer, u.ID)
		}
		fmt.Fprintln(c.App.Writer)
	}
	return reclaimed(c, total, errors.Join(errs...))
}
