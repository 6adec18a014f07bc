// Package run is the life of containers: create, start, stop, exec, logs, and the rest, one file per verb.
// It prints nothing and parses no flags. Its code runs in the front; what must be inside the user namespace it
// asks of the container's monitor, or starts there.
package run

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// Host is one user's containers on this machine.
type Host struct {
	Records *record.Store
	Images  *image.Index
	Volumes *volume.Set
	Program string // this executable, for the stages it starts
}

// Streams are what a conversation with a process is attached to.
type Streams struct {
	Stdin, Stdout, Stderr *os.File // handed over as they are; nil is not attached. Without Tty only.
	Tty                   bool     // the session's Tty carries both directions instead
	Rows, Cols            uint16
}

// Session is a conversation with a container's process through its monitor.
type Session struct{ unexported }
type unexported struct{}

func (s *Session) Tty() io.ReadWriter             { panic("stub") }
func (s *Session) Signal(sig unix.Signal) error   { panic("stub") }
func (s *Session) Resize(rows, cols uint16) error { panic("stub") }
func (s *Session) Wait() (code int, err error)    { panic("stub") } // until the process has ended
func (s *Session) Close() error                   { panic("stub") } // detaches

// Container is a record with its derived status.
type Container struct {
	*record.Container
	record.Status
}

// Create records a container; its image must be in the index (image.ErrNotFound otherwise).
func (h *Host) Create(ctx context.Context, c config.Config, name string) (*record.Container, error) {
	panic("stub")
}

// Start starts a created or exited container. An *oci.ExecError inside the error means the payload could not be executed.
func (h *Host) Start(ctx context.Context, c *record.Container, s *Streams) (*Session, error) {
	panic("stub")
}
func (h *Host) Attach(ctx context.Context, c *record.Container, s *Streams, logs bool) (*Session, error) {
	panic("stub")
}
func (h *Host) Exec(ctx context.Context, c *record.Container, e stage.Exec, s *Streams) (*Session, error) {
	panic("stub")
}
func (h *Host) Stop(ctx context.Context, c *record.Container, sig unix.Signal, timeout time.Duration) error {
	panic("stub")
}
func (h *Host) Kill(ctx context.Context, c *record.Container, sig unix.Signal) error { panic("stub") }
func (h *Host) Wait(ctx context.Context, c *record.Container) (int, error)           { panic("stub") }

// RemoveOptions of Remove.
type RemoveOptions struct{ Force, Volumes bool }

func (h *Host) Remove(ctx context.Context, c *record.Container, o RemoveOptions) error { panic("stub") }
func (h *Host) List(ctx context.Context) ([]Container, error)                          { panic("stub") }
func (h *Host) Find(ctx context.Context, nameOrID string) (Container, error)           { panic("stub") }

// LogOptions of Logs.
type LogOptions struct {
	Follow       bool
	Tail         int // lines from the end; negative is all
	Since, Until time.Time
}

// LogEntry is a piece of output: one line, or part of a long one.
type LogEntry struct {
	Time   time.Time
	Stderr bool
	Line   []byte // with its newline, if it had one
}

func (h *Host) Logs(ctx context.Context, c *record.Container, o LogOptions, each func(LogEntry) error) error {
	panic("stub")
}
