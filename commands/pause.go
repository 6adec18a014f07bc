package commands

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/record"
)

func pauseCommand() *cli.Command {
	return &cli.Command{
		Usage: "Pause all processes within one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Description: "A container with a control group of cgroup v2 is frozen by the kernel. Elsewhere every process gets SIGSTOP: processes that watch their children see that they stopped.",
		Action: func(c *cli.Context) error {
			return eachContainer(c, func(h *run.Host, t run.Container) error { return h.Pause(t.Container) })
		},
	}
}

func unpauseCommand() *cli.Command {
	return &cli.Command{
		Usage: "Unpause all processes within one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Action: func(c *cli.Context) error {
			return eachContainer(c, func(h *run.Host, t run.Container) error { return h.Unpause(t.Container) })
		},
	}
}

// unpauseFirst lets a paused container go on that is about to be ended: a stopped process hears of nothing but SIGKILL.
func unpauseFirst(c *cli.Context, h *run.Host, t run.Container) error {
	if t.State != record.Paused {
		return nil
	}
	p := programOf(c)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", t.Name, err)
	}
	defer null.Close()
	r, w, err := os.Pipe() // a line or two
	if err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", t.Name, err)
	}
	defer r.Close()
	argv := slices.Concat([]string{InsideStage}, p.globals, []string{"unpause", t.ID})
	err = errors.Join(p.enter(os.Executable, argv, Streams{null, null, w}), w.Close())
	if err == nil {
		return nil
	}
	if st, statusErr := h.Records.Status(t.ID); statusErr == nil && st.State != record.Paused {
		return nil // somebody else has, or has ended it
	}
	_, copyErr := io.Copy(p.streams.Err, r)
	return errors.Join(err, copyErr)
}
