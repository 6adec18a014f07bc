package commands

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/record"
)

// stopFlags are stop's and restart's. --time is what --timeout was called before.
func stopFlags() []cli.Flag {
	return []cli.Flag{
		option{"signal", "s", "string", "Signal to send to the container", ""},
		option{"timeout", "t", "int", "Seconds to wait before killing the container (-1: for ever)", ""},
		option{"time", "", "int", "The same as --timeout", ""},
	}
}

func stopCommand() *cli.Command {
	return &cli.Command{
		Usage: "Stop one or more running containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: stopFlags(),
		Action: func(c *cli.Context) error {
			return eachContainer(c, func(h *run.Host, t run.Container) error { return stopOne(c, h, t) })
		},
	}
}

func restartCommand() *cli.Command {
	return &cli.Command{
		Usage: "Restart one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: stopFlags(),
		Action: func(c *cli.Context) error {
			return eachContainer(c, func(h *run.Host, t run.Container) error {
				if err := restartOne(c, h, t); err != nil {
					return err
				}
				_ = h.Records.Emit(h.Records.ContainerEvent(t.Container, "restart", nil)) // it runs whether or not that can be told
				return nil
			})
		},
	}
}

// restartOne stops a container and starts it again. One with --rm, whose end would remove it, its monitor keeps.
func restartOne(c *cli.Context, h *run.Host, t run.Container) error {
	if t.Config.Remove && running(t) {
		sig, timeout, err := stopHow(c, t)
		if err != nil {
			return err
		}
		if err := unpauseFirst(c, h, t); err != nil {
			return err
		}
		return h.Restart(t.Container, sig, timeout)
	}
	if err := stopOne(c, h, t); err != nil {
		return err
	}
	t.State = record.Exited
	return startDetached(c.Context, h, t)
}

// stopOne stops a container; one that does not run is left alone.
func stopOne(c *cli.Context, h *run.Host, t run.Container) error {
	sig, timeout, err := stopHow(c, t)
	if err != nil || !running(t) {
		return err
	}
	if err := unpauseFirst(c, h, t); err != nil {
		return err
	}
	return h.Stop(c.Context, t.Container, sig, timeout)
}

// stopHow is the signal that stops a container, 0 for its own, and how long it then has.
func stopHow(c *cli.Context, t run.Container) (unix.Signal, time.Duration, error) {
	sig, err := signalNumber(c.String("signal"))
	if err != nil {
		return 0, 0, err
	}
	seconds := 10
	if t.Config.StopTimeout != nil {
		seconds = *t.Config.StopTimeout
	}
	for _, name := range []string{"time", "timeout"} {
		if s := c.String(name); s != "" {
			if seconds, err = strconv.Atoi(s); err != nil {
				return 0, 0, fmt.Errorf("invalid argument %q for --%s: %w", s, name, err)
			}
		}
	}
	timeout := time.Duration(seconds) * time.Second
	if timeout == 0 {
		timeout = 1 // at once; 0 would leave it to the container
	}
	return sig, timeout, nil
}

func killCommand() *cli.Command {
	return &cli.Command{
		Usage: "Kill one or more running containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{option{"signal", "s", "string", "Signal to send to the container", "KILL"}},
		Action: func(c *cli.Context) error {
			sig, err := signalNumber(c.String("signal"))
			if err != nil {
				return err
			}
			return eachContainer(c, func(h *run.Host, t run.Container) error {
				if !running(t) {
					return fmt.Errorf("cannot kill container %s: it is not running", t.Name)
				}
				if sig != unix.SIGKILL {
					if err := unpauseFirst(c, h, t); err != nil {
						return err
					}
				}
				if err := h.Kill(c.Context, t.Container, sig); err != nil || sig != unix.SIGKILL {
					return err
				}
				_, err := h.Wait(c.Context, t.Container) // nothing survives it, and the next command may rely on that
				if errors.Is(err, record.ErrNotFound) {
					return nil // --rm
				}
				return err
			})
		},
	}
}

// running says whether a container has a living process.
func running(t run.Container) bool {
	return t.Live()
}

// signalNumber reads KILL, SIGKILL, 9 or RTMIN+3; "" is 0, which leaves the choice to the container's image.
func signalNumber(s string) (unix.Signal, error) {
	if s == "" {
		return 0, nil
	}
	sig, err := config.ParseSignal(s)
	if err != nil {
		return 0, err
	}
	return sig, nil
}
