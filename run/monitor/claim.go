package monitor

import (
	"errors"
	"fmt"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

// claimGrace is how long the alive lock is waited for that somebody got just before us who does not run the container: the lock of the user namespace is
// held meanwhile.
const claimGrace = 100 * time.Millisecond

// claim takes the container's alive lock. A cp or export that opened the files of the container holds it too.
func (m *monitor) claim(id string) (*disk.Lock, error) {
	for start := time.Now(); ; {
		lock, err := m.store.ClaimAlive(id)
		if err == nil {
			return lock, errors.Join(m.store.SetPaused(id, false), m.store.SetRestarting(id, false)) // which a monitor that was killed has left behind
		}
		if !errors.Is(err, disk.ErrLocked) {
			return nil, err
		}
		st, err := m.store.Status(id)
		if err != nil {
			return nil, err
		}
		if st.Live() {
			return nil, fmt.Errorf("container %s is already running", id[:12])
		}
		if time.Since(start) > claimGrace {
			return nil, fmt.Errorf("cannot start container %s: another command is starting it or has its files open: try again", id[:12])
		}
		<-time.After(5 * time.Millisecond)
	}
}
