package userns

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A monitor that nobody wants hears of it when its connection is closed, and may be gone before its namespace has its maps: the user has got an error already, and this is none.
func TestAbortOfOneThatHasEnded(t *testing.T) {
	s, err := Begin(Options{Path: "/bin/true", Args: []string{"true"}, RunDir: t.TempDir(), Early: true})
	if err != nil {
		t.Skipf("no user namespace is to be had here: %v", err)
	}
	late := s.maps
	s.maps = func() error {
		for end := time.Now().Add(10 * time.Second); !ending(s.child.Pid) && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if err := late(); err != nil {
			return err
		}
		return unix.ESRCH // what newuidmap says of it, when it was not faster
	}
	if err := s.Abort(); err != nil {
		t.Errorf("an end that was asked for: %v", err)
	}
}
