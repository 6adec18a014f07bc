package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/record"
)

func rmCommand() *cli.Command {
	return &cli.Command{
		Usage: "Remove one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			option{"force", "f", "", "Force the removal of a running container (uses SIGKILL)", ""},
			option{"link", "l", "", "Refused: there are no links", ""},
			option{"volumes", "v", "", "Remove anonymous volumes associated with the container", ""},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("link") {
				return errors.New("cannot use --link: skiff has no links between containers")
			}
			o := run.RemoveOptions{Force: c.Bool("force"), Volumes: c.Bool("volumes")}
			h, err := hostOf(c)
			if err != nil {
				return err
			}
			return eachOperand(c, func(name string) error {
				t, err := h.Find(c.Context, name)
				if errors.Is(err, record.ErrNotFound) && o.Force {
					fmt.Fprintf(c.App.ErrWriter, "skiff: %s\n", message(err)) // wanted gone, and it is
					return nil
				}
				switch {
				case err == nil:
					err = h.Remove(c.Context, t.Container, o)
				case errors.Is(err, record.ErrCorrupt) && o.Force:
					var id string
					if id, err = h.Records.FindID(name); err == nil {
						err = h.Discard(id, nil, o.Volumes)
					}
				}
				if err == nil {
					_, err = fmt.Fprintln(c.App.Writer, name)
				}
				return err
			})
		},
	}
}
