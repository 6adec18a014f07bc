//go:build !front

package commands

import (
	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/ref"
)

func tagCommand(cmd *cli.Command) {
	cmd.Before = operands(cmd, 2, 2)
	cmd.Action = func(c *cli.Context) error {
		source, target := c.Args().First(), c.Args().Get(1)
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			if err := s.Tag(source, target); err != nil {
				return err
			}
			if img, err := s.Find(target); err == nil {
				emitImage(records, "tag", img.ID, []string{target})
			}
			return nil
		})
	}
}

func reindexCommand(cmd *cli.Command) {
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		return withStore(c, func(s *storage.Store, _ *record.Store) error { return s.Reindex() })
	}
}

// familiarName is a name as Docker shows it.
func familiarName(name string) string {
	r, err := ref.Parse(name)
	if err != nil {
		return name
	}
	return r.Familiar()
}
