package commands

import (
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
)

// watchReader closes the channel it returns when the pipe that was handed over as standard output has lost its reader. The monitor
// does the writing, so this process would never hear of it: `skiff run IMAGE yes | head -n 1` would run for ever. Nobody
// watches what is no pipe.
func watchReader(s *run.Streams) <-chan struct{} {
	var st unix.Stat_t
	if s.Stdout == nil || unix.Fstat(int(s.Stdout.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil
	}
	fds := []unix.PollFd{{Fd: int32(s.Stdout.Fd())}} // errors are reported unasked
	gone := make(chan struct{})
	go func() {
		for {
			n, err := unix.Poll(fds, -1)
			if n > 0 && err == nil {
				close(gone)
				return
			}
			if err != unix.EINTR {
				return
			}
		}
	}()
	return gone
}
