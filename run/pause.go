package run

import (
	"fmt"

	"github.com/skiff-containers/skiff/run/processes"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

// Pause stops every process of a container. The caller is inside the user namespace.
func (h *Host) Pause(c *record.Container) error {
	err := processes.Pause(h.Records, c)
	if err == nil {
		h.emit(c, "pause", nil)
	}
	return err
}

// Unpause lets a paused container's processes go on. The caller is inside the user namespace.
func (h *Host) Unpause(c *record.Container) error {
	err := processes.Unpause(h.Records, c)
	if err == nil {
		h.emit(c, "unpause", nil)
	}
	return err
}

// Hold has a running container's monitor keep it paused until release is called. Should this process end before, the monitor lets it go on. One that has ended is no error, and one that is paused already stays so.
func (h *Host) Hold(c *record.Container) (release func() error, err error) {
	conn, err := h.dial(c)
	if err != nil {
		return nil, err
	}
	ask := func(op stage.Op) error {
		if err := conn.Send(stage.Request{Op: op}); err != nil {
			return fmt.Errorf("%w: %s", ErrNotRunning, c.Name)
		}
		var r stage.Reply
		if _, err := conn.Receive(&r); err != nil {
			return fmt.Errorf("%w: %s", ErrNotRunning, c.Name)
		}
		if r.Kind == stage.Failed {
			return &ErrFailed{r.Error, r.Hint, r.Code}
		}
		return nil
	}
	if err := ask(stage.OpHold); err != nil {
		conn.Close()
		return nil, err
	}
	return func() error {
		defer conn.Close()
		return ask(stage.OpRelease)
	}, nil
}
