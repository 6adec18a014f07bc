package commands

import (
	"strings"

	"github.com/urfave/cli/v2"
)

func renameCommand() *cli.Command {
	return &cli.Command{
		Usage: "Rename a container", ArgsUsage: "CONTAINER NEW_NAME",
		Action: func(c *cli.Context) error {
			records, err := recordsOf(c)
			if err != nil {
				return err
			}
			t, err := records.Find(c.Args().Get(0))
			if err != nil {
				return err
			}
			return records.Rename(t.ID, strings.TrimPrefix(c.Args().Get(1), "/"))
		},
	}
}
