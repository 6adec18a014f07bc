package commands

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
)

func updateCommand() *cli.Command {
	return &cli.Command{
		Usage: "Update configuration of one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags:  append(updateFlags(), option{"restart", "", "string", "Restart policy to apply when a container exits", ""}),
		Action: update,
	}
}

// updateFlags are the limits that can be changed: those of run, without what only a new control group could have.
func updateFlags() []cli.Flag {
	names := map[string]bool{
		"blkio-weight": true, "cpu-period": true, "cpu-quota": true, "cpu-rt-period": true, "cpu-rt-runtime": true, "cpu-shares": true, "cpus": true,
		"cpuset-cpus": true, "cpuset-mems": true, "kernel-memory": true, "memory": true, "memory-reservation": true, "memory-swap": true, "pids-limit": true,
	}
	var flags []cli.Flag
	for _, f := range containerFlags() {
		if names[f.Names()[0]] {
			flags = append(flags, f)
		}
	}
	return flags
}

func update(c *cli.Context) error {
	if c.NumFlags() == 0 {
		return errors.New("cannot update: give one or more flags that say what is to change, such as --memory or --restart")
	}
	if err := refuse(c); err != nil {
		return err
	}
	change := func(cfg *config.Config) error {
		r := &reader{c: c}
		r.limits(&cfg.Limits)
		if c.IsSet("restart") {
			var err error
			cfg.Restart, err = parseRestart(c.String("restart"))
			r.fail("restart", err)
			if cfg.Remove && cfg.Restart.Policy != "" {
				r.fail("restart", errors.New("the container was made with --rm: what is removed at its end cannot be started again"))
			}
		}
		return r.err
	}
	return eachContainer(c, func(h *run.Host, t run.Container) error { return h.Update(c.Context, t.Container, change) })
}
