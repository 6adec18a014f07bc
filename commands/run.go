package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/record"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Usage: "Create and run a new container from an image", ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Description: "Exit codes: the payload's own; 128+n when signal n ended it; 125 skiff failed; 126 the payload cannot be\n" +
			"executed; 127 it was not found.",
		Flags: runFlags(), Action: runContainer,
	}
}

func runContainer(c *cli.Context) (err error) {
	cfg, err := configOf(c)
	if err != nil {
		return err
	}
	v := conversation{
		streams: streamsOf(c), tty: cfg.Tty, stdin: cfg.Interactive, outputs: cfg.Attach,
		detachKeys: c.String("detach-keys"), sigProxy: c.Bool("sig-proxy"), own: cfg.Remove,
	}
	if cfg.Attach != nil {
		v.stdin = slices.Contains(cfg.Attach, "stdin")
	}
	if !cfg.Detach && v.tty && v.stdin && !isTerminal(v.streams.In) {
		fmt.Fprintf(c.App.ErrWriter, "skiff: %s\n", errNotTTY)
		return exitCode(exitFailed)
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	launch := programOf(c).launch
	defer func() { err = errors.Join(err, launch.Abort()) }()
	t, err := createContainer(c, h, cfg, func(ctx context.Context, cfg config.Config, name string) (t *record.Container, err error) {
		t, launch, err = h.CreateAhead(ctx, cfg, name, launch)
		return t, err
	})
	if err != nil {
		return err
	}
	if cfg.Detach {
		session, err := launch.Start(t, nil)
		if err != nil {
			return notStarted(h, t, err)
		}
		if session != nil {
			err = session.Close()
		}
		if _, perr := fmt.Fprintln(c.App.Writer, t.ID); err == nil {
			err = perr
		}
		return err
	}
	return v.hold(c.Context, func(s *run.Streams) (*run.Session, error) {
		session, err := launch.Start(t, s)
		if err != nil {
			err = notStarted(h, t, err)
		}
		return session, err
	})
}

// notStarted removes a --rm container that could not be started; another one stays, as created, for the user to look at.
func notStarted(h *run.Host, t *record.Container, err error) error {
	if !t.Config.Remove {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if rmErr := h.Remove(ctx, t, run.RemoveOptions{Force: true, Volumes: true}); rmErr != nil && !errors.Is(rmErr, record.ErrNotFound) {
		err = errors.Join(err, rmErr)
	}
	return err
}
