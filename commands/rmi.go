//go:build !front

package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func rmiCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"force", "f", "", "Force removal of the image", ""},
		option{"no-prune", "", "", "Accepted for compatibility: untagged parents are never deleted", ""},
	}
	cmd.Before = operands(cmd, 1, -1)
	cmd.Action = func(c *cli.Context) error {
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			return eachOperand(c, func(name string) error {
				done, err := s.Remove(name, storage.RemoveOptions{
					Force: c.Bool("force"),
					Users: func(id string) ([]storage.User, error) { return imageUsers(records, id) },
				})
				for _, d := range done {
					emitRemoved(records, d)
					if d.Untagged != "" {
						fmt.Fprintf(c.App.Writer, "Untagged: %s\n", d.Untagged)
						continue
					}
					fmt.Fprintf(c.App.Writer, "Deleted: %s\n", d.Deleted)
				}
				if errors.Is(err, storage.ErrNotFound) && c.Bool("force") {
					fmt.Fprintf(c.App.ErrWriter, "skiff: %s\n", message(err)) // wanted gone, and it is
					return nil
				}
				return err
			})
		})
	}
}

// imageUsers lists the containers made from an image. A record that cannot be read might be one: then nothing is removed.
func imageUsers(records *record.Store, id string) ([]storage.User, error) {
	list, err := records.List()
	if err != nil {
		return nil, fmt.Errorf("cannot see which containers use the image: %w", err)
	}
	var users []storage.User
	for _, r := range list {
		if r.ImageID != id {
			continue
		}
		status, err := records.Status(r.ID)
		running := err != nil || status.Live()
		users = append(users, storage.User{ID: r.ID, Running: running})
	}
	return users, nil
}

// emitRemoved appends the event of what was done to an image; layers have none.
func emitRemoved(records *record.Store, d storage.Removed) {
	switch {
	case d.Untagged != "":
		emitImage(records, "untag", d.ID, []string{d.Untagged})
	case d.ID != "":
		emitImage(records, "delete", d.ID, nil)
	}
}
