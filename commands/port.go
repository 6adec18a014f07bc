package commands

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
)

func portCommand() *cli.Command {
	return &cli.Command{
		Usage: "List port mappings or a specific mapping for the container", ArgsUsage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
		Action: port,
	}
}

func port(c *cli.Context) error {
	records, err := recordsOf(c)
	if err != nil {
		return err
	}
	found, err := records.Find(c.Args().First())
	if err != nil {
		return err
	}
	st, err := records.Status(found.ID)
	if err != nil {
		return err
	}
	t := run.Container{Container: found, Status: st}
	asked := c.Args().Get(1)
	if asked != "" && !strings.Contains(asked, "/") {
		asked += "/tcp"
	}
	some := false
	eachPort(publishedPorts(t), func(p config.Port) {
		inside := strconv.Itoa(int(p.Container)) + "/" + p.Protocol
		if p.Host == 0 || asked != "" && asked != inside {
			return
		}
		some = true
		line := net.JoinHostPort(hostIP(p), strconv.Itoa(int(p.Host)))
		if asked == "" {
			line = inside + " -> " + line
		}
		fmt.Fprintln(c.App.Writer, line)
	})
	if asked != "" && !some {
		return fmt.Errorf("no public port '%s' published for %s", asked, c.Args().First())
	}
	return nil
}
