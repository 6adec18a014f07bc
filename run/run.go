// Package run is the life of containers: create, start, stop, exec, logs, and the rest, one file per verb.
// It prints nothing and parses no flags. Its code runs in the front; what must be inside the user namespace it
// asks of the container's monitor, or starts there.
package run

import (
	"os"

	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// Host is one user's containers on this machine.
type Host struct {
	Records *record.Store
	Images  *image.Index
	Volumes *volume.Set
	Program string                 // this executable, for the stages it starts
	Engine  func() (string, error) // the engine's executable
	Inside  bool                   // this process is in the user's user namespace: it deletes files by itself
	// Tell is called when a command has waited long for another one; nil is silence.
	Tell func(what string)
	// Warn is called with what a container goes without; nil is silence.
	Warn func(text string)
}

// Streams are what a conversation with a process is attached to.
type Streams struct {
	Stdin, Stdout, Stderr *os.File // handed over as they are; nil is not attached. Without Tty only.
	Tty                   bool     // the session's Tty carries both directions instead
	Rows, Cols            uint16
}

// Container is a record with its derived status.
type Container struct {
	*record.Container
	record.Status
}
