package commands

import (
	"strings"

	"github.com/urfave/cli/v2"
)

func renameCommand() *cli.Command {
	return &cli.Command{
		Usage: "Rename a container", ArgsUsage: "CONTAINER NEW_NAME",
		Action: func(c *cli.Context) error {
			h, err := hostOf(c)
			if err != nil {
				return err
			}
			t, err := h.Records.Find(c.Args().Get(0))
			if err != nil {
				return err
			}
			return h.Rename(t, strings.TrimPrefix(c.Args().Get(1), "/"))
		},
	}
}
