package run

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/skiff-containers/skiff/run/log"
	"github.com/skiff-containers/skiff/storage/record"
)

// List gives all containers, newest first. Those that cannot be read are joined in the error, beside the good ones.
func (h *Host) List(context.Context) ([]Container, error) {
	all, err := h.Records.List()
	list := make([]Container, 0, len(all))
	errs := []error{err}
	for _, c := range all {
		st, err := h.Records.Status(c.ID)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if st.Running() {
			st.Health, err = h.Records.Health(c.ID)
			errs = append(errs, err)
		}
		list = append(list, Container{c, st})
	}
	return list, errors.Join(errs...)
}

// Find resolves a name, an id or an id prefix.
func (h *Host) Find(_ context.Context, nameOrID string) (Container, error) {
	c, err := h.Records.Find(nameOrID)
	if err != nil {
		return Container{}, err
	}
	st, err := h.Records.Status(c.ID)
	if err == nil && st.Started != nil {
		st.Health, err = h.Records.Health(c.ID)
	}
	return Container{c, st}, err
}

// LogOptions of Logs.
type LogOptions struct {
	Follow       bool
	Tail         int // lines from the end; negative is all
	Since, Until time.Time
}

// LogEntry is one line of output, with its newline if it had one.
type LogEntry = log.Entry

// Logs gives what the container has printed, oldest first.
func (h *Host) Logs(ctx context.Context, c *record.Container, o LogOptions, each func(LogEntry) error) error {
	driver, err := log.ParseOptions(c.Config.LogDriver, c.Config.LogOptions)
	if err != nil {
		return err
	}
	return log.Read(ctx, filepath.Join(h.Records.Dir(c.ID), record.Log), driver, log.ReadOptions{
		Tail: o.Tail, Since: o.Since, Until: o.Until, Follow: o.Follow,
		Alive: func() bool {
			st, err := h.Records.Status(c.ID)
			return err == nil && st.Live()
		},
	}, each)
}
