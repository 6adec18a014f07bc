package commands

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
)

func execCommand() *cli.Command {
	return &cli.Command{
		Usage: "Execute a command in a running container", ArgsUsage: "CONTAINER COMMAND [ARG...]",
		Flags: []cli.Flag{
			option{"detach", "d", "", "Detached mode: run command in the background", ""},
			detachKeysOption(),
			option{"env", "e", "list", "Set environment variables", ""},
			option{"env-file", "", "list", "Read in a file of environment variables", ""},
			option{"interactive", "i", "", "Keep STDIN open even if not attached", ""},
			option{"privileged", "", "", "Give extended privileges to the command", ""},
			option{"tty", "t", "", "Allocate a pseudo-TTY", ""},
			option{"user", "u", "string", `Username or UID (format: "<name|uid>[:<group|gid>]")`, ""},
			option{"workdir", "w", "string", "Working directory inside the container", ""},
		},
		Action: execIn,
	}
}

func execIn(c *cli.Context) error {
	var cfg config.Config
	r := &reader{c: c}
	r.environment(&cfg)
	if r.err != nil {
		return r.err
	}
	words := c.Args().Slice()
	e := stage.Exec{
		Args: words[1:], Env: cfg.Env, User: c.String("user"), Workdir: c.String("workdir"), Privileged: c.Bool("privileged"),
		Detach: c.Bool("detach"), Tty: c.Bool("tty"), Stdin: c.Bool("interactive"),
	}
	v := conversation{streams: streamsOf(c), tty: e.Tty, stdin: e.Stdin, detachKeys: c.String("detach-keys"), sigProxy: true, own: true}
	if !e.Detach && e.Tty && e.Stdin && !isTerminal(v.streams.In) {
		fmt.Fprintf(c.App.ErrWriter, "skiff: %s\n", errNotTTY)
		return exitCode(exitFailed)
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := h.Find(c.Context, words[0])
	if err != nil {
		return err
	}
	if !running(t) {
		return hinted{fmt.Errorf("cannot execute in container %s: it is not running", t.Name), "start it first: skiff start " + t.Name}
	}
	if e.Tty && os.Getenv("TERM") != "" && isTerminal(v.streams.In) {
		e.Env = append([]string{"TERM=" + os.Getenv("TERM")}, e.Env...)
	}
	if e.Detach {
		session, err := h.Exec(c.Context, t.Container, e, nil)
		if err != nil || session == nil {
			return err
		}
		return session.Close()
	}
	return v.hold(c.Context, func(s *run.Streams) (*run.Session, error) { return h.Exec(c.Context, t.Container, e, s) })
}
