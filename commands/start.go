package commands

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/record"
)

func detachKeysOption() cli.Flag {
	return option{"detach-keys", "", "string", "Override the key sequence for detaching a container", defaultDetachKeys}
}

func startCommand() *cli.Command {
	return &cli.Command{
		Usage: "Start one or more stopped containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			option{"attach", "a", "", "Attach STDOUT/STDERR and forward signals", ""},
			detachKeysOption(),
			option{"interactive", "i", "", "Attach container's STDIN", ""},
			option{"sig-proxy", "", "", "Proxy received signals to the process", "true"},
		},
		Action: start,
	}
}

func start(c *cli.Context) error {
	attached := c.Bool("attach") || c.Bool("interactive")
	if attached && c.NArg() > 1 {
		return errors.New("cannot attach to several containers at once")
	}
	if !attached {
		return eachContainer(c, func(h *run.Host, t run.Container) error { return startDetached(c.Context, h, t) })
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := h.Find(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	v := conversationFor(c, t)
	v.stdin = c.Bool("interactive") && t.Config.Interactive
	if running(t) {
		return v.hold(c.Context, func(s *run.Streams) (*run.Session, error) { return h.Attach(c.Context, t.Container, s, false) })
	}
	return v.hold(c.Context, func(s *run.Streams) (*run.Session, error) { return h.Start(c.Context, t.Container, s) })
}

// startDetached starts a container and leaves it to its monitor; one that runs is left alone.
func startDetached(ctx context.Context, h *run.Host, t run.Container) error {
	if running(t) {
		return nil
	}
	session, err := h.Start(ctx, t.Container, nil)
	if err != nil {
		return startedByOther(ctx, h, t, err)
	}
	return session.Close()
}

// startedByOther is nil when somebody else was faster in starting a container; err was the answer to us. One who is just at it is waited for.
func startedByOther(ctx context.Context, h *run.Host, t run.Container, err error) error {
	for began := time.Now(); time.Since(began) < startPatience; {
		now, findErr := h.Find(ctx, t.ID)
		if findErr == nil && running(now) {
			return nil
		}
		if errors.Is(findErr, record.ErrNotFound) {
			return findErr // somebody has removed it
		}
		alive, aliveErr := h.Records.Alive(t.ID)
		if findErr != nil || aliveErr != nil || !alive {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
	return err
}

// startPatience is how long somebody else's start is waited for.
const startPatience = 10 * time.Second

// conversationFor is how a foreground verb talks to a container as it was created; the flags override.
func conversationFor(c *cli.Context, t run.Container) conversation {
	v := conversation{
		streams: streamsOf(c), tty: t.Config.Tty, stdin: t.Config.Interactive,
		detachKeys: first(t.Config.DetachKeys, defaultDetachKeys), sigProxy: c.Bool("sig-proxy"),
	}
	if slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool { return f.Names()[0] == "detach-keys" }) && c.IsSet("detach-keys") {
		v.detachKeys = c.String("detach-keys")
	}
	return v
}
