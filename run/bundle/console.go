package bundle

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SendConsole gives a terminal to whoever listens on a socket (runc's docs/terminals.md, "detached"): a stream on which its descriptor is sent.
func SendConsole(socket string) func(*os.File) error {
	return func(console *os.File) error { return sendConsole(socket, console) }
}

func sendConsole(socket string, console *os.File) (err error) {
	if console == nil {
		return errors.New("cannot send the terminal: there is none")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot send the terminal: %w", err)
	}
	defer unix.Close(fd)
	short, done, err := through(socket)
	if err != nil {
		return err
	}
	defer done()
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: short}); err == nil {
		// The receiver gets our open file description: as a blocking one, which it expects.
		n := int(console.Fd())
		if err = unix.SetNonblock(n, false); err == nil {
			err = unix.Sendmsg(fd, []byte("/dev/ptmx"), unix.UnixRights(n), nil, unix.MSG_NOSIGNAL)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot send the terminal to %s: %w", socket, err)
	}
	return nil
}
