package commands

import (
	"bufio"
	"fmt"

	"github.com/urfave/cli/v2"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Usage: "Inspect changes to files or directories on a container's filesystem", ArgsUsage: "CONTAINER",
		Description: "Each line is A (added), C (changed) or D (deleted) and a path. What is in volumes and other mounts is not compared.",
		Action: func(c *cli.Context) error {
			h, err := hostOf(c)
			if err != nil {
				return err
			}
			t, err := h.Find(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			changes, err := h.Changes(t.Container)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(c.App.Writer)
			for _, change := range changes {
				fmt.Fprintf(out, "%c %s\n", change.Kind, change.Path)
			}
			return out.Flush()
		},
	}
}
