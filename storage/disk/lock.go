package disk

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Mode is how a lock is held.
type Mode int16

// Shared locks exclude Exclusive and Visit ones only. Visit excludes as Exclusive does, but is no sign of life (Lives): whoever looks after something that
// nobody lives in holds it.
const (
	Shared Mode = iota
	Exclusive
	Visit
)

// flock is the range of the file that is locked: all of it, for a visit all but the first byte.
func (m Mode) flock() *unix.Flock_t {
	switch m {
	case Shared:
		return &unix.Flock_t{Type: unix.F_RDLCK}
	case Visit:
		return &unix.Flock_t{Type: unix.F_WRLCK, Start: 1}
	}
	return &unix.Flock_t{Type: unix.F_WRLCK}
}

// Lock is an open-file-description lock (fcntl(2), F_OFD_SETLK): it lives as long as any copy of its descriptor,
// across fork and exec, and dies with the last holder.
type Lock struct{ file *os.File }

// ErrLocked says that somebody else holds the lock.
var ErrLocked = errors.New("locked by another process")

// TryLock opens (making it with perm 0600) and locks path, or returns ErrLocked at once.
func TryLock(path string, mode Mode) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if err := lock(f, mode); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

func lock(f *os.File, mode Mode) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, mode.flock())
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	return err
}

// patience is how long WaitLock waits in silence.
const patience = 2 * time.Second

// WaitLock is TryLock that waits for the holder; it calls tell (when not nil) once after two seconds, so that nobody hangs without
// knowing on what.
func WaitLock(path string, mode Mode, tell func(path string)) (*Lock, error) {
	start, pause, told := time.Now(), 200*time.Microsecond, false
	for {
		l, err := TryLock(path, mode)
		if err == nil || !errors.Is(err, ErrLocked) {
			return l, err
		}
		if !told && tell != nil && time.Since(start) > patience {
			tell(path)
			told = true
		}
		time.Sleep(pause) //nolint:forbidigo // F_OFD_SETLKW cannot say after two seconds that it waits
		if pause < 20*time.Millisecond {
			pause += pause / 2
		}
	}
}

// Adopt makes a Lock of a descriptor that already holds one (inherited across an exec).
func Adopt(f *os.File) *Lock { return &Lock{f} }

// File is the lock's descriptor, to hand to a child.
func (l *Lock) File() *os.File { return l.file }

// Unlock gives the lock up by closing this copy of the descriptor.
func (l *Lock) Unlock() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("cannot unlock %s: %w", l.file.Name(), err)
	}
	return nil
}

// Locked asks whether anybody holds a lock on path (F_OFD_GETLK) without taking it. A missing file is not locked.
func Locked(path string) (bool, error) { return held(path, 0) }

// Lives is Locked but for visits.
func Lives(path string) (bool, error) { return held(path, 1) }

// held asks about the first n bytes of a file, all of them when n is 0.
func held(path string, n int64) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot ask for the lock of %s: %w", path, err)
	}
	defer f.Close()
	ask := unix.Flock_t{Type: unix.F_WRLCK, Len: n}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &ask); err != nil {
		return false, fmt.Errorf("cannot ask for the lock of %s: %w", path, err)
	}
	return ask.Type != unix.F_UNLCK, nil
}

// Same says whether path still names the file that l locks: its directory may have been deleted, and made anew, since.
func Same(l *Lock, path string) bool {
	mine, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, there)
}
