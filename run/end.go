package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

// defaultStopTimeout is how long a process has after the stop signal.
const defaultStopTimeout = 10 * time.Second

// Stop sends the stop signal (sig, when 0 the container's own, else SIGTERM), and SIGKILL after the timeout (0: the container's own; negative: never). It returns when the container has ended; one that
// does not run is no error.
func (h *Host) Stop(ctx context.Context, c *record.Container, sig unix.Signal, timeout time.Duration) error {
	sig, err := stopSignal(c, sig)
	if err != nil {
		return err
	}
	err = h.end(ctx, c, stage.Request{Op: stage.OpStop, Signal: int(sig), Timeout: timeout})
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err == nil {
		h.emit(c, "stop", nil)
	}
	return err
}

// Restart ends a running --rm container as Stop does and has its monitor start it again, which its end would remove otherwise. It returns when that has happened.
func (h *Host) Restart(c *record.Container, sig unix.Signal, timeout time.Duration) error {
	sig, err := stopSignal(c, sig)
	if err != nil {
		return err
	}
	if err := h.ask(c, stage.Request{Op: stage.OpRestart, Signal: int(sig), Timeout: timeout}); err != nil {
		return fmt.Errorf("cannot restart container %s: %w", c.Name, err)
	}
	return nil
}

// stopSignal is the signal that ends a container: sig, or when that is 0 its own.
func stopSignal(c *record.Container, sig unix.Signal) (unix.Signal, error) {
	switch {
	case sig != 0:
		return sig, nil
	case c.Config.StopSignal != "":
		return config.ParseSignal(c.Config.StopSignal)
	}
	return unix.SIGTERM, nil
}

// end sends a request that ends with the container and waits for that, and for the monitor's own end.
func (h *Host) end(_ context.Context, c *record.Container, req stage.Request) error {
	conn, err := h.dial(c)
	if err != nil {
		return err
	}
	s, err := h.open(conn, req, nil, func() (int, error) { return h.lost(c) })
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Wait()
	return err
}

// Kill sends a signal to the container's first process.
func (h *Host) Kill(_ context.Context, c *record.Container, sig unix.Signal) error {
	conn, err := h.dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Send(stage.Request{Op: stage.OpSignal, Signal: int(sig)}); err != nil {
		return err
	}
	var r stage.Reply
	if _, err := conn.Receive(&r); err != nil {
		return nil // it ended with the signal
	}
	if r.Kind == stage.Failed {
		return &ErrFailed{r.Error, r.Hint, r.Code}
	}
	h.emit(c, "kill", map[string]string{"signal": fmt.Sprint(int(sig))})
	return nil
}

// Wait waits for the container's end and returns its exit code; of one that does not run, the last.
func (h *Host) Wait(_ context.Context, c *record.Container) (int, error) {
	for {
		st, err := h.Records.Status(c.ID)
		if err != nil {
			return -1, err
		}
		switch st.State {
		case record.Running, record.Paused, record.Restarting:
			conn, err := h.dial(c)
			if errors.Is(err, ErrNotRunning) {
				continue
			}
			if err != nil {
				return -1, err
			}
			s, err := h.open(conn, stage.Request{Op: stage.OpWait}, nil, func() (int, error) {
				if _, err := os.Stat(h.Records.Dir(c.ID)); errors.Is(err, os.ErrNotExist) {
					return -1, fmt.Errorf("%w: %s", record.ErrNotFound, c.Name) // --rm
				}
				return h.lost(c)
			})
			if err != nil {
				return -1, err
			}
			defer s.Close()
			return s.Wait()
		case record.Created:
			return 0, nil // it does not run: as Docker's, whose script may never start it
		default:
			return st.Exit.Code, nil
		}
	}
}

// removalPatience is how long a removal waits for a monitor to take its container apart, on a machine that is busy with other things.
const removalPatience = time.Minute

// RemoveOptions of Remove: Force ends a running container first; Volumes removes its anonymous volumes too.
type RemoveOptions struct{ Force, Volumes bool }

// Remove removes a container.
func (h *Host) Remove(ctx context.Context, c *record.Container, o RemoveOptions) error {
	for {
		alive, err := h.Records.Alive(c.ID)
		if err != nil {
			return err
		}
		if alive {
			if err := h.endForRemoval(ctx, c, o.Force); err != nil {
				return err
			}
		}
		if err := h.endLeftovers(c.ID); err != nil {
			return err
		}
		if err := h.Discard(c.ID, c, o.Volumes || c.Config.Remove); !errors.Is(err, disk.ErrLocked) {
			return err
		}
		// Somebody has started it meanwhile, or removes it.
	}
}

// endForRemoval waits until the monitor has let the container go, and with force makes it: one that is only about to start is ended as soon as it has.
func (h *Host) endForRemoval(ctx context.Context, c *record.Container, force bool) error {
	for start := time.Now(); ; {
		alive, err := h.Records.Alive(c.ID)
		if err != nil || !alive {
			return err
		}
		st, err := h.Records.Status(c.ID)
		if err != nil && !force {
			return err
		}
		if st.Live() {
			if !force {
				return fmt.Errorf("cannot remove container %q: it is running: stop it first, or remove it with -f", c.Name)
			}
			if err := h.end(ctx, c, stage.Request{Op: stage.OpStop, Signal: int(unix.SIGKILL), Timeout: -1}); err != nil && !errors.Is(err, ErrNotRunning) && !errors.Is(err, errLost) {
				return err
			}
		}
		if time.Since(start) > removalPatience {
			return fmt.Errorf("cannot remove container %s: its monitor does not end, or another command has its files open", c.ID[:12])
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// Discard removes a container's record, readable or not, and what it has on disk. c may be nil. disk.ErrLocked says that it has a monitor, or that somebody
// else removes it.
func (h *Host) Discard(id string, c *record.Container, volumes bool) error {
	// A monitor that starts meanwhile would write into a directory that has gone.
	alive, err := h.Records.ClaimVisit(id)
	if err != nil {
		return err
	}
	retire := h.Records.Retire
	if volumes {
		retire = h.Records.RetireWithVolumes
	}
	err = retire(id)
	gone := errors.Is(err, record.ErrNotFound) // a --rm container that removed itself meanwhile
	if err == nil {
		err = netns.Open(h.Records.Data, h.Records.Run).Forget(id) // a monitor that was killed has left its addresses
	}
	if releaseErr := h.Records.Release(id); releaseErr != nil {
		err = errors.Join(err, fmt.Errorf("cannot remove the runtime directory of container %s: %w", id[:12], releaseErr))
	}
	err = errors.Join(err, alive.Unlock())
	if gone {
		return nil
	}
	if err != nil {
		return err
	}
	if c != nil {
		h.emit(c, "destroy", nil)
	}
	return h.Sweep()
}

// Sweep deletes what was retired, and these volumes, inside the user namespace: by a process started there, unless this one is.
func (h *Host) Sweep(volumes ...string) error {
	if h.Inside {
		return sweep(h.Records.Data, h.Records.Run, volumes)
	}
	child, err := userns.Start(userns.Options{
		Path: h.Program, Args: append([]string{stage.Sweep, h.Records.Data, h.Records.Run}, volumes...),
		Files: []*os.File{nil, nil, os.Stderr}, Dir: "/", RunDir: h.Records.Run, Tell: h.Tell,
	})
	if err != nil {
		return err
	}
	code, err := child.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("cannot delete everything: exit %d", code)
	}
	return err
}
