//go:build !front

package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func pushCommand(cmd *cli.Command) {
	cmd.Flags = append([]cli.Flag{
		option{"all-tags", "a", "", "Push all tags of an image to the repository", ""},
		option{"digestfile", "", "string", "Write the digest of the pushed image to this file", ""},
		option{"disable-content-trust", "", "", "Accepted for compatibility", ""},
		option{"quiet", "q", "", "Suppress the progress", ""},
	}, accessFlags()...)
	cmd.Before = operands(cmd, 1, 2)
	cmd.Action = func(c *cli.Context) error {
		name, target := c.Args().First(), c.Args().Get(1)
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			if !c.Bool("all-tags") {
				return pushOne(c, s, records, name, target)
			}
			if target != "" || c.String("digestfile") != "" {
				return errors.New("cannot push all tags to a destination, or with --digestfile: those are of one image")
			}
			tags, err := pull.Tags(s, name)
			var errs []error
			for _, tag := range tags { // one tag's failure is not the others'
				errs = append(errs, pushOne(c, s, records, tag, ""))
			}
			return errors.Join(append(errs, err)...)
		})
	}
}

// pushOne pushes an image under a name and says so.
func pushOne(c *cli.Context, s *storage.Store, records *record.Store, name, target string) error {
	tell, end := progress(streamsOf(c).Err, forms{"Pushing", "Pushed"}, c.Bool("quiet"))
	pushed, err := pull.Push(c.Context, s, name, target, pull.PushOptions{Access: accessOf(c), Progress: tell})
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
}
