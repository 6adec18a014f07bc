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

// historyRows lists an image's steps, newest first, each with the size of its own layer.
func historyRows(img *image.Image, now time.Time, human, whole bool) (rows []historyRow) {
	steps := img.Config.History
	sizes := stepSizes(img)
	for i := len(steps) - 1; i >= 0; i-- {
		s := steps[i]
		r := historyRow{Comment: s.Comment, CreatedBy: strings.ReplaceAll(s.CreatedBy, "\t", " "), ID: "<missing>", Size: "N/A"}
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
		if !human {
			r.CreatedSince = r.CreatedAt
		}
		switch {
		case sizes == nil: // not known: said, not guessed
		case human:
			r.Size = humanSize(sizes[i])
		default:
			r.Size = strconv.FormatInt(sizes[i], 10)
		}
		rows = append(rows, r)
	}
	return rows
}

// stepSizes are the bytes of what each step of an image's history made, in the history's order (oldest first). It is nil when the history
// does not have a step for each layer, which an image's author may write, and when the index does not know the sizes yet.
func stepSizes(img *image.Image) []int64 {
	sizes := make([]int64, len(img.Config.History))
	next := len(img.Sizes) // they are top first
	for i, s := range img.Config.History {
		if s.EmptyLayer {
			continue
		}
		if next--; next < 0 {
			return nil
		}
		sizes[i] = img.Sizes[next]
	}
	if next != 0 {
		return nil
	}
	return sizes
}
