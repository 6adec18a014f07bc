// Package disk is how skiff touches files that must survive: atomic writes, locks that die with their holder, the
// boot id, and path look-ups that cannot leave a root directory. It has no opinion on what is stored.
package disk

import "os"

// Sync says whether a write must survive a power loss.
type Sync bool

// Durable syncs file and directory; Volatile leaves both to the kernel.
const (
	Durable  Sync = true
	Volatile Sync = false
)

// WriteFile replaces path with data atomically: a temporary file beside it, write, sync if asked, rename, sync of the directory if asked.
func WriteFile(path string, data []byte, perm os.FileMode, sync Sync) error { panic("stub") }

// Mode is how a lock is held.
type Mode int16

// Shared locks exclude Exclusive ones only.
const (
	Shared Mode = iota
	Exclusive
)

// Lock is an open-file-description lock (fcntl(2), F_OFD_SETLK): it lives as long as any copy of its descriptor, across fork and exec, and dies with the last holder.
type Lock struct{ file *os.File }

// ErrLocked says that somebody else holds the lock.
var ErrLocked error

// TryLock opens (making it with perm 0600) and locks path, or returns ErrLocked at once.
func TryLock(path string, mode Mode) (*Lock, error) { panic("stub") }

// WaitLock is TryLock that waits for the holder; waiting calls tell (when not nil) once after two seconds so that nobody hangs without knowing on what.
func WaitLock(path string, mode Mode, tell func(path string)) (*Lock, error) { panic("stub") }

// Adopt makes a Lock of a descriptor that already holds one (inherited across an exec).
func Adopt(f *os.File) *Lock { panic("stub") }

// File is the lock's descriptor, to hand to a child.
func (l *Lock) File() *os.File { return l.file }

// Unlock gives the lock up by closing this copy of the descriptor.
func (l *Lock) Unlock() error { panic("stub") }

// Locked asks whether anybody holds a lock on path (F_OFD_GETLK) without taking it. A missing file is not locked.
func Locked(path string) (bool, error) { panic("stub") }

// BootID is the first eight digits of the machine's boot id.
func BootID() (string, error) { panic("stub") }
