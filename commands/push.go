//go:build !front

package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func pushCommand(cmd *cli.Command) {
	cmd.Flags = append([]cli.Flag{
		option{"digestfile", "", "string", "Write the digest of the pushed image to this file", ""},
		option{"disable-content-trust", "", "", "Accepted for compatibility", ""},
		option{"quiet", "q", "", "Suppress the progress", ""},
	}, accessFlags()...)
	cmd.Before = operands(cmd, 1, 2)
	cmd.Action = func(c *cli.Context) error {
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			tell, end := progress(streamsOf(c).Err, forms{"Pushing", "Pushed"}, c.Bool("quiet"))
			name := c.Args().First()
			pushed, err := pull.Push(c.Context, s, name, c.Args().Get(1), pull.PushOptions{Access: accessOf(c), Progress: tell})
			end()
			if err != nil {
				return err
			}
			if img, findErr := s.Find(name); findErr == nil {
				emitImage(records, "push", img.ID, []string{pushed.Name})
			}
			if path := c.String("digestfile"); path != "" {
				if err = writeFile(path, []byte(pushed.Digest)); err != nil {
					return err
				}
			}
			if c.Bool("quiet") {
				_, err = fmt.Fprintln(c.App.Writer, pushed.Name)
			} else {
				_, err = fmt.Fprintf(c.App.Writer, "%s: digest: %s size: %d\n", pushed.Name, pushed.Digest, pushed.Size)
			}
			return err
		})
	}
}
