//go:build !front

package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func pullCommand(cmd *cli.Command) {
	cmd.Flags = append([]cli.Flag{
		option{"all-tags", "a", "", "Download all tagged images in the repository", ""},
		option{"disable-content-trust", "", "", "Accepted for compatibility: signatures are the policy file's matter", ""},
		option{"platform", "", "string", "Take the image for this platform (OS/ARCH[/VARIANT])", ""},
		option{"policy", "", "string", "When to download: always, or missing (only what is not there)", "always"},
		option{"quiet", "q", "", "Suppress the progress", ""},
		option{"signature-policy", "", "string", "Path of the signature policy, instead of the user's or the system's", ""},
	}, accessFlags()...)
	cmd.Before = operands(cmd, 1, 1)
	cmd.Action = func(c *cli.Context) error {
		platform, err := pull.ParsePlatform(c.String("platform"))
		if err != nil {
			return err
		}
		policy := c.String("policy")
		if policy != "always" && policy != "missing" {
			return &usageError{text: fmt.Sprintf("invalid argument %q for \"--policy\" flag: must be always or missing", policy), verb: "pull", code: exitOurs}
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			if policy == "missing" {
				img, err := s.Present(c.Args().First())
				if err != nil {
					return err
				}
				if img != nil && platform.Matches(img.Config.OS, img.Config.Architecture, img.Config.Variant) {
					_, err = fmt.Fprintln(c.App.Writer, img.ID)
					return err
				}
			}
			tell, end := progress(streamsOf(c).Err, forms{"Pulling", "Pulled"}, c.Bool("quiet"))
			done, err := pull.Pull(c.Context, s, c.Args().First(), pull.Options{
				Access: accessOf(c), Platform: platform, AllTags: c.Bool("all-tags"), Progress: tell,
			})
			end()
			for _, img := range done {
				emitImage(records, "pull", img.ID, img.Names)
				if _, printErr := fmt.Fprintln(c.App.Writer, img.ID); printErr != nil {
					return printErr
				}
			}
			return err
		})
	}
}

// emitImage appends an event; images are there whether or not it can be told.
func emitImage(records *record.Store, action, id string, names []string) {
	e := record.Event{Type: "image", Action: action, ID: "sha256:" + id}
	if len(names) > 0 {
		e.Attributes = map[string]string{"name": familiarName(names[0])}
	}
	_ = records.Emit(e)
}
