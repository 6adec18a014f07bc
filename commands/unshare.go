package commands

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/urfave/cli/v2"
)

func unshareCommand() *cli.Command {
	return &cli.Command{
		Usage: "Run a command inside the user namespace of skiff", ArgsUsage: "[COMMAND [ARG...]]",
		Description: "Inside, you are root of a user namespace that maps your subordinate ids: files that containers own can be\n" +
			"read, changed and deleted. Without a command, $SHELL is started.",
		Action: unshare,
	}
}

func unshare(c *cli.Context) error {
	words := c.Args().Slice()
	if len(words) == 0 {
		words = []string{first(os.Getenv("SHELL"), "/bin/sh")}
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return notRunnable{fmt.Errorf("cannot run %s: %w", words[0], err), errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist)}
	}
	p := programOf(c)
	return p.enter(func() (string, error) { return path, nil }, words, p.streams)
}

// notRunnable is a command that cannot be run, with the exit code of a payload's.
type notRunnable struct {
	error
	missing bool
}

func (e notRunnable) Unwrap() error { return e.error }

// ExitCode is 127 or 126.
func (e notRunnable) ExitCode() int {
	if e.missing {
		return exitNotFound
	}
	return exitCannotExec
}
