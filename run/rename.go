package run

import (
	"errors"
	"os"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/storage/record"
)

// Rename gives a container another name. Neighbours on its networks find a running one by the new name from then on: the name servers see that the book of addresses has changed.
func (h *Host) Rename(c *record.Container, name string) error {
	if err := h.Records.Rename(c.ID, name); err != nil {
		return err
	}
	networks := netns.Open(h.Records.Data, h.Records.Run)
	var errs []error
	for _, p := range c.Config.Places {
		n, err := networks.Find(p.Network)
		if err == nil {
			err = networks.Update(n, c.ID, func(e *netns.Endpoint) { e.Name = name })
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, netns.ErrNotFound) { // it is not there while it does not run
			errs = append(errs, err)
		}
	}
	h.emit(c, "rename", map[string]string{"oldName": c.Name})
	return errors.Join(errs...)
}
