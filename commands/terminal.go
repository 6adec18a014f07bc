package commands

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal is a terminal that has been put into raw mode: every key is a byte for the container.
type terminal struct {
	file  *os.File
	saved *unix.Termios
}

// isTerminal says whether a stream is one.
func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// rawTerminal puts a terminal into raw mode; what is none is left as it is, and restore does nothing then.
func rawTerminal(f *os.File) (*terminal, error) {
	t := &terminal{file: f}
	saved, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return t, nil //nolint:nilerr // no terminal, no raw mode
	}
	raw := *saved
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw); err != nil {
		return t, err
	}
	t.saved = saved
	return t, nil
}

// restore undoes rawTerminal. It may be called twice.
func (t *terminal) restore() {
	if t.saved != nil {
		_ = unix.IoctlSetTermios(int(t.file.Fd()), unix.TCSETS, t.saved) // the terminal may be gone
		t.saved = nil
	}
}

// terminalSize is a terminal's size in characters, or zeros.
func terminalSize(f *os.File) (rows, cols uint16) {
	if f == nil {
		return 0, 0
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return ws.Row, ws.Col
}
