package commands

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

func waitCommand() *cli.Command {
	return &cli.Command{
		Usage: "Block until one or more containers stop, then print their exit codes", ArgsUsage: "CONTAINER [CONTAINER...]",
		Action: wait,
	}
}

// wait waits for all containers at once and prints their codes in the order they were named.
func wait(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	type end struct {
		code int
		err  error
	}
	var ends []chan end
	for _, name := range c.Args().Slice() {
		e := make(chan end, 1)
		ends = append(ends, e)
		t, err := h.Find(c.Context, name)
		if err != nil {
			e <- end{err: err}
			continue
		}
		go func() {
			code, err := h.Wait(c.Context, t.Container)
			e <- end{code, err}
		}()
	}
	var errs []error
	for _, e := range ends {
		got := <-e
		if got.err != nil {
			errs = append(errs, got.err)
			continue
		}
		fmt.Fprintln(c.App.Writer, got.code)
	}
	return errors.Join(errs...)
}
