//go:build !front

package commands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func commitCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"author", "a", "string", "Author of the image", ""},
		option{"change", "c", "list", "Apply Dockerfile instruction to the created image", ""},
		option{"message", "m", "string", "Commit message", ""},
		option{"no-pause", "", "", "Commit a running container while it goes on", ""},
		option{"pause", "p", "", "Pause container during commit", "true"},
	}
	cmd.Before = operands(cmd, 1, 2)
	cmd.Action = func(c *cli.Context) error {
		return withStore(c, func(s *storage.Store, records *record.Store) (err error) {
			container, err := records.Find(c.Args().First())
			if err != nil {
				return err
			}
			st, err := records.Status(container.ID)
			if err != nil {
				return err
			}
			if container.Layer == "vfs" {
				return fmt.Errorf("cannot commit %s: its layer is a copy of the image (vfs), which does not tell what changed", container.Name)
			}
			name := c.Args().Get(1)
			if st.State == record.Running && !c.Bool("no-pause") && c.Bool("pause") {
				h, hostErr := hostAt(records, Inside, c.App.ErrWriter)
				if hostErr != nil {
					return hostErr
				}
				// Whoever has ended meanwhile writes no more.
				release, holdErr := h.Hold(container)
				if holdErr != nil && !errors.Is(holdErr, run.ErrNotRunning) {
					return fmt.Errorf("cannot commit %s: %w", container.Name, holdErr)
				}
				if holdErr == nil {
					// Whoever is told to end does not let the container wait until all is read.
					stop := context.AfterFunc(c.Context, func() { _ = release() }) // it may have ended
					defer func() {
						if !stop() {
							return
						}
						if err2 := release(); !errors.Is(err2, run.ErrNotRunning) {
							err = errors.Join(err, err2)
						}
					}()
				}
			}
			id, err := pull.Commit(c.Context, s, pull.CommitOptions{
				ImageID: container.ImageID, Upper: filepath.Join(records.Dir(container.ID), record.Layer, "upper"), Config: container.Config,
				Author: c.String("author"), Message: c.String("message"), Changes: listOf(c, "change"), Name: name,
			})
			if err != nil {
				return fmt.Errorf("cannot commit %s: %w", container.Name, err)
			}
			var names []string
			if name != "" {
				names = []string{name}
			}
			emitImage(records, "commit", id, names)
			_, err = fmt.Fprintln(c.App.Writer, "sha256:"+id)
			return err
		})
	}
}
