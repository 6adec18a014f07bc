package run

import (
	"context"
	"fmt"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

// Connect puts a running container on one more network.
func (h *Host) Connect(_ context.Context, c *record.Container, p config.Place) error {
	return h.ask(c, stage.Request{Op: stage.OpConnect, Place: &p})
}

// Disconnect takes a running container off a network.
func (h *Host) Disconnect(_ context.Context, c *record.Container, network string) error {
	return h.ask(c, stage.Request{Op: stage.OpDisconnect, Place: &config.Place{Network: network}})
}

// ask sends the container's monitor a request that is answered by ok or error.
func (h *Host) ask(c *record.Container, r stage.Request) error {
	conn, err := h.dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Send(r); err != nil {
		return err
	}
	var reply stage.Reply
	if _, err := conn.Receive(&reply); err != nil {
		return fmt.Errorf("the monitor of container %s ended before it answered", c.Name)
	}
	if reply.Kind == stage.Failed {
		return &ErrFailed{reply.Error, reply.Hint, reply.Code}
	}
	return nil
}
