package commands

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/record"
)

func attachCommand() *cli.Command {
	return &cli.Command{
		Usage: "Attach local standard input, output, and error streams to a running container", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			detachKeysOption(),
			option{"no-stdin", "", "", "Do not attach STDIN", ""},
			option{"sig-proxy", "", "", "Proxy all received signals to the process", "true"},
		},
		Action: attach,
	}
}

func attach(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := h.Find(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if !running(t) {
		return hinted{
			fmt.Errorf("cannot attach to container %s: it is not running", t.Name),
			"start it first: skiff start " + t.Name,
		}
	}
	switch t.State {
	case record.Paused:
		return hinted{
			fmt.Errorf("cannot attach to container %s: it is paused", t.Name),
			"let it go on first: skiff unpause " + t.Name,
		}
	case record.Restarting:
		return fmt.Errorf("cannot attach to container %s: it is restarting: wait until it is running", t.Name)
	}
	v := conversationFor(c, t)
	v.stdin = t.Config.Interactive && !c.Bool("no-stdin")
	if v.tty && v.stdin && !isTerminal(v.streams.In) {
		return errNotTTY
	}
	return v.hold(c.Context, func(s *run.Streams) (*run.Session, error) { return h.Attach(c.Context, t.Container, s, false) })
}
