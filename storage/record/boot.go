package record

import (
	"errors"
	"os"
	"path/filepath"
)

// retireFleeting takes the --rm containers out of sight that ran when the machine went down: nobody was left who could. The first command of a boot calls it, before
// it makes this boot's runtime directory, so that one that is killed here leaves it to the next; two at once do no harm, and neither does a start, which is refused for
// such a container. Sweep deletes what is in them.
func (s *Store) retireFleeting(boot string) error {
	ids, err := s.ids()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		c, cut := s.cutOff(id, boot)
		if !cut {
			continue
		}
		if err := s.RetireWithVolumes(id); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
			continue
		}
		if c != nil {
			_ = s.Emit(s.ContainerEvent(c, "destroy", nil)) // it is gone whether or not that can be told
		}
	}
	return errors.Join(errs...)
}

// cutOff says whether a container was made with --rm and began to run before another boot. Of one whose record was not on the disk yet there is an empty file: others are synced.
func (s *Store) cutOff(id, boot string) (*Container, bool) {
	if st, err := os.Stat(filepath.Join(s.Dir(id), configFile)); err == nil && st.Size() == 0 {
		return nil, true
	}
	c, err := s.Load(id)
	if err != nil || !c.Config.Remove {
		return nil, false
	}
	var started Started
	ok, err := readJSON(filepath.Join(s.Dir(id), startedFile), &started)
	return c, ok && err == nil && started.Boot != boot
}
