package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/record"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Usage: "Get events as they happen",
		Flags: []cli.Flag{
			option{"filter", "f", "filter", "Filter output based on conditions provided", ""},
			option{"format", "", "string", "Format output: 'json', or a Go 'TEMPLATE'", ""},
			option{"since", "", "string", "Show all events created since timestamp", ""},
			option{"until", "", "string", "Stream events until this timestamp", ""},
		},
		Action: events,
	}
}

func events(c *cli.Context) error {
	f, err := parseFilters(listOf(c, "filter"), "type", "event", "container", "image", "volume", "network", "label", "label!", "scope")
	if err != nil {
		return err
	}
	now := time.Now()
	since, err := parseWhen("since", c.String("since"), now)
	if err != nil {
		return err
	}
	until, err := parseWhen("until", c.String("until"), now)
	if err != nil {
		return err
	}
	show, err := eventPrinter(c.App.Writer, c.String("format"))
	if err != nil {
		return err
	}
	records, err := recordsOf(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
	defer stop()
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	if since.IsZero() {
		since = now
	}
	last := until
	if last.Nanosecond() == 0 {
		last = last.Add(time.Second - 1) // given to the second: all of that second is meant
	}
	return followEvents(ctx, records.EventsFile(), since, func(e record.Event) error {
		if e.Time.Before(since) || !until.IsZero() && e.Time.After(last) || !eventMatches(f, e) {
			return nil
		}
		return show(e)
	})
}

// eventMatches applies --filter; the event's object is matched by name or by the beginning of its id.
func eventMatches(f filters, e record.Event) bool {
	object := func(kind string) bool {
		return f.match(kind, func(v string) bool {
			return e.Type == kind && (strings.HasPrefix(e.ID, v) || e.Attributes["name"] == v) || kind == "image" && e.Attributes["image"] == v
		})
	}
	return f.match("type", func(v string) bool { return e.Type == v }) &&
		f.match("event", func(v string) bool { return e.Action == v }) &&
		f.match("scope", func(v string) bool { return v == "local" }) &&
		object("container") && object("image") && object("volume") && object("network") && f.labels(e.Attributes)
}

// eventRow is an event in the shape of Docker's API: the fields of --format.
type eventRow struct {
	Status   string `json:"status,omitempty"`
	ID       string `json:"id,omitempty"`
	From     string `json:"from,omitempty"`
	Type     string
	Action   string
	Actor    eventActor
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

type eventActor struct {
	ID         string
	Attributes map[string]string
}

// eventPrinter prints one event at a time: Docker's line, JSON, or a template.
func eventPrinter(w io.Writer, format string) (func(record.Event) error, error) {
	row := func(e record.Event) eventRow {
		r := eventRow{
			Type: e.Type, Action: e.Action, Actor: eventActor{e.ID, e.Attributes}, Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(),
		}
		if e.Type == "container" {
			r.Status, r.ID, r.From = e.Action, e.ID, e.Attributes["image"]
		}
		return r
	}
	switch format {
	case "":
		return func(e record.Event) error {
			var attributes []string
			for _, k := range slices.Sorted(maps.Keys(e.Attributes)) {
				attributes = append(attributes, k+"="+e.Attributes[k])
			}
			line := fmt.Sprintf("%s %s %s %s", e.Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00"), e.Type, e.Action, e.ID)
			if attributes != nil {
				line += " (" + strings.Join(attributes, ", ") + ")"
			}
			_, err := fmt.Fprintln(w, line)
			return err
		}, nil
	case "json":
		return func(e record.Event) error { return json.NewEncoder(w).Encode(row(e)) }, nil
	}
	t, err := parseFormat(format)
	if err != nil {
		return nil, err
	}
	return func(e record.Event) error { return executeLines(w, t, []eventRow{row(e)}) }, nil
}
