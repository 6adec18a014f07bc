package commands

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run/processes"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Usage: "Display the running processes of a container", ArgsUsage: "CONTAINER [ps OPTIONS]",
		Description: "The host's ps is run (with -ef unless told otherwise) and what it says of the container's processes is shown: pids are the host's, users the container's.",
		Action:      top,
	}
}

func top(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := h.Find(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	options := c.Args().Tail()
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	path, err := exec.LookPath("ps")
	if err != nil {
		return hinted{fmt.Errorf("cannot list the processes of container %s: %w", t.Name, err), "install ps (`sudo apt install procps`)"}
	}
	cmd := exec.CommandContext(c.Context, path, options...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("cannot list the processes of container %s: ps %s: %w: %s", t.Name, strings.Join(options, " "), err, line)
	}
	members, err := processes.List(h.Records, t.Container)
	if err != nil {
		return err
	}
	pids := map[int]bool{}
	for _, p := range members {
		pids[p.Pid] = true
	}
	text, err := ofProcesses(string(out), pids)
	if err != nil {
		return fmt.Errorf("cannot list the processes of container %s: %w", t.Name, err)
	}
	_, err = fmt.Fprint(c.App.Writer, text)
	return err
}

// ofProcesses leaves only the lines of ps's output that are about these processes, and the header.
func ofProcesses(out string, pids map[int]bool) (string, error) {
	var kept strings.Builder
	column := -1
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if column < 0 {
			if column = slices.Index(fields, "PID"); column < 0 {
				return "", errors.New("ps shows no PID column: its options must leave it in")
			}
			kept.WriteString(line)
			continue
		}
		if len(fields) <= column {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && pids[pid] {
			kept.WriteString(line)
		}
	}
	return kept.String(), nil
}
