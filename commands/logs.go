package commands

import (
	"bufio"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
)

func logsCommand() *cli.Command {
	return &cli.Command{
		Usage: "Fetch the logs of a container", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			option{"details", "", "", "Show extra details provided to logs", ""},
			option{"follow", "f", "", "Follow log output", ""},
			option{"since", "", "string", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`, ""},
			option{"tail", "n", "string", "Number of lines to show from the end of the logs", "all"},
			option{"timestamps", "t", "", "Show timestamps", ""},
			option{"until", "", "string", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`, ""},
		},
		Action: logs,
	}
}

func logs(c *cli.Context) error {
	o, err := logOptions(c, time.Now())
	if err != nil {
		return err
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := h.Find(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if t.Config.LogDriver == "none" {
		return fmt.Errorf("cannot read the log of container %s: it was created with --log-driver none", t.Name)
	}
	ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
	defer stop()
	out, errw := bufio.NewWriter(c.App.Writer), bufio.NewWriter(c.App.ErrWriter)
	details := ""
	if c.Bool("details") {
		details = labelText(t.Config.LogOptions) + " "
	}
	whole := map[bool]bool{false: true, true: true} // whether the last piece of a stream ended its line
	err = h.Logs(ctx, t.Container, o, func(e run.LogEntry) error {
		w, other := out, errw
		if e.Stderr && !t.Config.Tty {
			w, other = errw, out
		}
		if other.Buffered() > 0 { // keep the order between the two as it was
			if err := other.Flush(); err != nil {
				return err
			}
		}
		if whole[e.Stderr] {
			if c.Bool("timestamps") {
				writeText(w, e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00")+" ")
			}
			writeText(w, details)
		}
		whole[e.Stderr] = len(e.Line) > 0 && e.Line[len(e.Line)-1] == '\n'
		_, err := w.Write(e.Line)
		if err == nil && o.Follow {
			err = w.Flush()
		}
		return err
	})
	for _, w := range []*bufio.Writer{out, errw} {
		if ferr := w.Flush(); err == nil {
			err = ferr
		}
	}
	if ctx.Err() != nil && c.Err() == nil {
		return exitCode(128 + int(unix.SIGINT))
	}
	return err
}

// writeText writes to a buffer whose flush reports what goes wrong.
func writeText(w io.Writer, s string) { _, _ = io.WriteString(w, s) }

func logOptions(c *cli.Context, now time.Time) (run.LogOptions, error) {
	o := run.LogOptions{Follow: c.Bool("follow"), Tail: -1}
	var err error
	if o.Since, err = parseWhen("since", c.String("since"), now); err != nil {
		return o, err
	}
	if o.Until, err = parseWhen("until", c.String("until"), now); err != nil {
		return o, err
	}
	if tail := c.String("tail"); tail != "all" {
		if o.Tail, err = strconv.Atoi(tail); err != nil {
			return o, fmt.Errorf("invalid argument %q for --tail: give a number of lines or 'all'", tail)
		}
		o.Tail = max(o.Tail, -1)
	}
	return o, nil
}
