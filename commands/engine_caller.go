//go:build !front

package commands

// This file ends an engine whose caller is gone: a front that was killed forwards no signal, and nobody would hear of the result.

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errCallerGone is why an engine stops by itself.
var errCallerGone = errors.New("the command that asked for this was killed")

// whenCallerEnds calls gone once the process that started this one has ended. It costs a thread that waits. Where nobody can be watched (no pidfds before
// Linux 5.3, or the caller ended before this one looked) nothing is called.
func whenCallerEnds(gone func()) {
	fd, err := unix.PidfdOpen(os.Getppid(), 0)
	if err != nil {
		return
	}
	go func() {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 {
				gone()
				return
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
}
