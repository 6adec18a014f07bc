package record

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-containers/skiff/storage/plain"
)

// maxEvents is the size at which the events file is rotated (to events.1), in bytes.
const maxEvents = 4 << 20

// EventsFile is where events are; readers that follow watch it grow.
func (s *Store) EventsFile() string { return filepath.Join(s.Data, eventsFile) }

// ContainerEvent is an event of a container, with its image, its name as it is now (a monitor knows the one that it was started with), and its labels.
func (s *Store) ContainerEvent(c *Container, action string, attributes map[string]string) Event {
	all := map[string]string{}
	maps.Copy(all, c.Config.Labels)
	all["image"], all["name"] = c.ImageName, c.Name
	if name, err := os.ReadFile(filepath.Join(s.Dir(c.ID), nameFile)); err == nil {
		all["name"] = string(name)
	}
	maps.Copy(all, attributes)
	return Event{Type: "container", Action: action, ID: c.ID, Attributes: all}
}

// Emit appends an event: one write with O_APPEND, so that lines of several processes do not mix. The file is rotated when large.
func (s *Store) Emit(e Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now().UTC()
	}
	line, err := plain.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.EventsFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot record an event: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if st, statErr := f.Stat(); statErr == nil && st.Size() > maxEvents {
		err = errors.Join(err, os.Rename(s.EventsFile(), s.EventsFile()+".1"))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot record an event: %w", err)
	}
	return nil
}
