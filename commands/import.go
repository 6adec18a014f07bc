//go:build !front

package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func importCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"change", "c", "list", "Apply Dockerfile instruction to the created image", ""},
		option{"message", "m", "string", "Set commit message for imported image", ""},
		option{"platform", "", "string", "Platform of the created image (OS/ARCH[/VARIANT])", ""},
		option{"quiet", "q", "", "Accepted for compatibility: only the image's id is printed", ""},
	}
	cmd.Before = operands(cmd, 1, 2)
	cmd.Action = func(c *cli.Context) error {
		platform, err := pull.ParsePlatform(c.String("platform"))
		if err != nil {
			return err
		}
		in, source := streamsOf(c).In, c.Args().First()
		if source == "-" && isTerminal(in) {
			return &usageError{text: "cannot import from a terminal: redirect standard input", verb: "import", code: exitFailed}
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			name := c.Args().Get(1)
			id, err := pull.Import(c.Context, s, source, in, name, pull.ImportOptions{
				Changes: listOf(c, "change"), Message: c.String("message"), Platform: platform,
			})
			if err != nil {
				return err
			}
			var names []string
			if name != "" {
				names = []string{name}
			}
			emitImage(records, "import", id, names)
			_, err = fmt.Fprintln(c.App.Writer, "sha256:"+id)
			return err
		})
	}
}
