package run

import (
	"context"
	"fmt"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

// Update changes a container's limits and restart policy: change is given its present configuration. A running container gets the limits at once, by its monitor; when
// that fails nothing is recorded.
func (h *Host) Update(_ context.Context, c *record.Container, change func(*config.Config) error) error {
	err := h.Records.Update(c.ID, func(now *record.Container) error {
		old := now.Config.Limits
		if err := change(&now.Config); err != nil {
			return err
		}
		st, err := h.Records.Status(c.ID)
		if err != nil {
			return err
		}
		if !st.Running() || now.Config.Limits.Equal(old) {
			return nil
		}
		return h.ask(c, stage.Request{Op: stage.OpUpdate, Old: &old, Limits: &now.Config.Limits})
	})
	if err != nil {
		return fmt.Errorf("cannot update container %s: %w", c.Name, err)
	}
	h.emit(c, "update", nil)
	return nil
}
