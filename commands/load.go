//go:build !front

package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func loadCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"input", "i", "string", "Read from tar archive file, instead of standard input", ""},
		option{"platform", "", "string", "Load only the given platform of an image for several", ""},
		option{"quiet", "q", "", "Suppress the load output", ""},
	}
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		platform, err := pull.ParsePlatform(c.String("platform"))
		if err != nil {
			return err
		}
		in, file := streamsOf(c).In, c.String("input")
		if file == "" && isTerminal(in) {
			return &usageError{text: "cannot load from a terminal: name an archive with -i, or redirect standard input", verb: "load", code: exitFailed}
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			tell, end := progress(streamsOf(c).Err, forms{"Loading", "Loaded"}, c.Bool("quiet") || !isTerminal(streamsOf(c).Err))
			done, err := pull.Load(c.Context, s, file, in, pull.LoadOptions{Platform: platform, Progress: tell})
			end()
			for _, img := range done {
				emitImage(records, "load", img.ID, img.Names)
				if len(img.Names) == 0 {
					fmt.Fprintf(c.App.Writer, "Loaded image ID: sha256:%s\n", img.ID)
				}
				for _, n := range img.Names {
					fmt.Fprintf(c.App.Writer, "Loaded image: %s\n", familiarName(n))
				}
			}
			return err
		})
	}
}
