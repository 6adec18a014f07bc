package storage

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Errors that callers test with errors.Is.
var (
	ErrNotFound = errors.New("no such image")
	ErrInUse    = errors.New("image is in use")
)

// Error is a failure with what the user can do about it.
type Error struct {
	What string // the whole sentence
	Help string
	Err  error // for errors.Is; its text is in What where it helps
}

func (e *Error) Error() string { return e.What }

// Unwrap gives errors.Is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint is what the user can do.
func (e *Error) Hint() string { return e.Help }

// explain puts an error of the system or the library into one line that names the object, with the way out where there is one.
func explain(doing, object string, err error) error {
	e := &Error{What: fmt.Sprintf("cannot %s %s: %s", doing, object, lastLine(err)), Err: err}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.What = fmt.Sprintf("cannot %s %s: the disk is full", doing, object)
		e.Help = disk.FullHint
	case errors.Is(err, unix.EROFS):
		e.What = fmt.Sprintf("cannot %s %s: the file system is read-only", doing, object)
		e.Help = disk.ReadOnlyHint
	case errors.Is(err, os.ErrPermission):
		e.What = fmt.Sprintf("cannot %s %s: permission denied", doing, object)
		e.Help = "make the directory writable by its owner, or keep the data elsewhere with --root"
	case errors.Is(err, os.ErrNotExist):
		e.What = fmt.Sprintf("cannot %s %s: it does not exist", doing, object)
	case errors.Is(err, storage.ErrImageUnknown):
		e.Err = ErrNotFound
	}
	return e
}

// unpackError puts the error of unpacking a layer into words. The library's own about owners that have no id in the user namespace names another program's remedy.
func unpackError(err error) error {
	_, rest, owners := strings.Cut(err.Error(), "potentially insufficient UIDs or GIDs available in user namespace (requested ")
	who, _, found := strings.Cut(rest, ")")
	if !owners || !found {
		return fmt.Errorf("cannot unpack a layer: %w", err)
	}
	ids, file, _ := strings.Cut(who, " for ")
	return &Error{
		What: fmt.Sprintf("cannot unpack a layer: %s is owned by %s, and the user namespace has no such ids", file, ids),
		Help: "give the user subordinate ids (`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`), or inside a container, start that one with more ids",
		Err:  err,
	}
}

// lastLine flattens an error's text.
func lastLine(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", " ")), " ")
}
