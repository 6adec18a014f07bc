package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-containers/skiff/storage/plain"
)

// maxEvents is the size at which the events file is rotated (to events.1), in bytes.
const maxEvents = 4 << 20

// EventsFile is where events are; readers that follow watch it grow.
func (s *Store) EventsFile() string { return filepath.Join(s.Data, eventsFile) }

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
