package commands

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/storage/image"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Usage: "Show the history of an image", ArgsUsage: "IMAGE",
		Flags: []cli.Flag{
			option{"format", "", "string", formatUsage, ""},
			option{"human", "H", "", "Print sizes and dates in human readable format", "true"},
			option{"no-trunc", "", "", "Don't truncate output", ""},
			option{"quiet", "q", "", "Only show image IDs", ""},
		},
		Action: history,
	}
}

// historyRow is a line of history: the fields of its --format.
type historyRow struct{ Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string }

func history(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	img, err := h.Images.Find(c.Args().First())
	if err != nil {
		return err
	}
	rows := historyRows(img, time.Now(), c.Bool("human"), c.Bool("no-trunc"))
	if c.Bool("quiet") {
		for _, r := range rows {
			if _, err := fmt.Fprintln(c.App.Writer, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	l := listing[historyRow]{
		columns: []column{{"IMAGE", "ID"}, {"CREATED", "CreatedSince"}, {"CREATED BY", "CreatedBy"}, {"SIZE", "Size"}, {"COMMENT", "Comment"}},
		headers: map[string]string{"CreatedAt": "CREATED AT"},
		cells: func(r historyRow) []string {
			return []string{r.ID, r.CreatedSince, r.CreatedBy, r.Size, r.Comment}
		},
	}
	return l.print(c.App.Writer, c.String("format"), rows)
}

// historyRows lists an image's steps, newest first. The size of one layer is not kept: the image's whole size stands
// at its newest step that made one.
func historyRows(img *image.Image, now time.Time, human, whole bool) (rows []historyRow) {
	steps := img.Config.History
	sized := false
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i]
		r := historyRow{Comment: s.Comment, CreatedBy: strings.ReplaceAll(s.CreatedBy, "\t", " "), ID: "<missing>"}
		if i == len(steps)-1 {
			r.ID = shortID(img.ID)
			if whole {
				r.ID = "sha256:" + img.ID
			}
		}
		if !whole {
			r.CreatedBy = ellipsis(r.CreatedBy, 45)
		}
		if s.Created != nil {
			r.CreatedAt = s.Created.Format(time.RFC3339)
			r.CreatedSince = humanDuration(now.Sub(*s.Created)) + " ago"
		}
		var size int64
		if !s.EmptyLayer && !sized {
			size, sized = img.Size, true
		}
		r.Size = humanSize(size)
		if !human {
			r.CreatedSince, r.Size = r.CreatedAt, strconv.FormatInt(size, 10)
		}
		rows = append(rows, r)
	}
	return rows
}
