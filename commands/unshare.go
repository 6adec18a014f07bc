package commands

import (
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
		return fmt.Errorf("cannot run %s: %w", words[0], err)
	}
	p := programOf(c)
	return p.enter(func() (string, error) { return path, nil }, words, p.streams)
}
