//go:build !front

package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func imagePruneCommand(cmd *cli.Command) {
	cmd.Flags = append(pruneFlags("until=<timestamp>"), option{"all", "a", "", "Remove all unused images, not just dangling ones", ""})
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		f, err := parseFilters(listOf(c, "filter"), "until", "label", "label!", "dangling")
		if err != nil {
			return err
		}
		dangling, err := f.truth("dangling", true)
		if err != nil {
			return err
		}
		all := c.Bool("all") || !dangling
		delete(f, "dangling")
		what := "all dangling images."
		if all {
			what = "all images without at least one container associated to them."
		}
		if err := confirm(c, "This will remove "+what); err != nil {
			return err
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			freed, err := pruneImages(c, s, records, f, all)
			return reclaimed(c, freed, err)
		})
	}
}

// pruneImages removes the unused images that the filters take, those without a name unless all are meant, and says so. It returns the bytes that their layers took.
func pruneImages(c *cli.Context, s *storage.Store, records *record.Store, f filters, all bool) (freed int64, err error) {
	list, err := s.Index.List()
	if err != nil {
		return 0, err
	}
	names, err := s.Index.Names()
	if err != nil {
		return 0, err
	}
	wanted, err := imageFilter(s.Index, list, f)
	if err != nil {
		return 0, err
	}
	var errs []error
	title := "Deleted Images:\n"
	for _, img := range list {
		if img.ReadOnly || !all && len(names[img.ID]) > 0 || !wanted(img, names[img.ID]) {
			continue
		}
		users := func(id string) ([]storage.User, error) { return imageUsers(records, id) }
		if u, usersErr := users(img.ID); usersErr != nil {
			return freed, usersErr
		} else if len(u) > 0 {
			continue
		}
		done, bytes, removeErr := s.Reclaim(img.ID, storage.RemoveOptions{Force: true, Users: users})
		errs = append(errs, removeErr)
		freed += bytes
		for _, d := range done {
			emitRemoved(records, d)
			if d.Untagged != "" {
				fmt.Fprintf(c.App.Writer, "%suntagged: %s\n", title, d.Untagged)
			} else {
				fmt.Fprintf(c.App.Writer, "%sdeleted: %s\n", title, d.Deleted)
			}
			title = ""
		}
	}
	if title == "" {
		fmt.Fprintln(c.App.Writer)
	}
	left, err := s.Sweep() // what interrupted pulls had finished
	return freed + left, errors.Join(append(errs, err)...)
}
