package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/processes"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/record"
)

// Start starts a created or exited container: its monitor is started inside the user namespace, and the conversation with it is the session. An *ErrFailed says
// what the monitor could not do.
func (h *Host) Start(ctx context.Context, c *record.Container, s *Streams) (*Session, error) {
	if alive, err := h.Records.Alive(c.ID); err != nil {
		return nil, err
	} else if alive {
		if err := h.awaitFiles(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := h.endLeftovers(c.ID); err != nil {
		return nil, err
	}
	if c.Config.Remove {
		if st, err := h.Records.Status(c.ID); err == nil && st.Started != nil {
			return nil, fmt.Errorf("cannot start container %s again: it was made with --rm; remove it", c.Name)
		}
	}
	l, err := h.Launch()
	if err != nil {
		return nil, err
	}
	session, err := l.Start(c, s)
	if err != nil {
		if _, statErr := os.Stat(h.Records.Dir(c.ID)); errors.Is(statErr, os.ErrNotExist) {
			err = fmt.Errorf("%w: %s", record.ErrNotFound, c.Name) // somebody has removed it meanwhile
		}
	}
	return session, err
}

// notRunning puts the end of a monitor that was just asked into the words for a container that does not run.
func (h *Host) notRunning(c *record.Container, err error) error {
	if errors.Is(err, errGone) {
		if st, statErr := h.Records.Status(c.ID); statErr != nil || !st.Live() {
			return fmt.Errorf("%w: %s", ErrNotRunning, c.Name)
		}
	}
	return err
}

// Launch is a monitor that has been started before its container is recorded, or even known: its start-up, the id maps and the reading of the command line share the time.
type Launch struct {
	host     *Host
	conn     *stage.Conn
	starting *userns.Starting // nil when Start or Abort was called
}

// Launch forks a monitor, which does nothing until it hears which container it is for. Until then others wait who want to make the user namespace: whoever
// has to wait for something calls Abort first.
func (h *Host) Launch() (*Launch, error) {
	conn, theirs, err := stage.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	starting, err := userns.Begin(userns.Options{
		Path: h.Program, Args: []string{stage.Monitor, h.Records.Data, h.Records.Run},
		Files: []*os.File{nil, nil, nil, theirs}, Dir: "/", Setsid: true,
		RunDir: h.Records.Run, Member: true, Early: true, Tell: h.Tell,
		// Until the payload runs there is one thing to do at a time; the monitor takes the other processors then.
		Env: append(os.Environ(), "GOMAXPROCS=1"),
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Launch{h, conn, starting}, nil
}

// engine is the program that a container's monitor may have to start as the switch, for an address or to find devices; "" when it will not.
func (h *Host) engine(c *config.Config) (string, error) {
	_, nic := c.NIC()
	if !c.Bridged() && !nic && len(c.CDI) == 0 {
		return "", nil
	}
	return h.Engine()
}

// Start tells the monitor to start its container, which is recorded by now.
func (l *Launch) Start(c *record.Container, s *Streams) (*Session, error) {
	engine, err := l.host.engine(&c.Config)
	if err != nil {
		return nil, errors.Join(err, l.Abort())
	}
	starting := l.starting
	l.starting = nil
	child, err := starting.Finish()
	if err == nil {
		err = child.PidFD.Close()
	}
	if err != nil {
		return nil, errors.Join(err, l.conn.Close())
	}
	return l.host.open(l.conn, stage.Request{Op: stage.OpStart, ID: c.ID, Engine: engine}, s, func() (int, error) { return l.host.lost(c) })
}

// Abort ends a monitor that was not started. A nil Launch and one that was are left alone.
func (l *Launch) Abort() error {
	if l == nil || l.starting == nil {
		return nil
	}
	starting := l.starting
	l.starting = nil
	return errors.Join(l.conn.Close(), starting.Abort())
}

// ErrRunning says that the container runs already.
var ErrRunning = errors.New("the container is already running")

// errLost says that a monitor was killed while it was asked for something.
var errLost = errors.New("was lost: its monitor was killed")

// lost says what became of a container whose monitor went without a word.
func (h *Host) lost(c *record.Container) (int, error) {
	st, err := h.Records.Status(c.ID)
	if err == nil && st.State == record.Exited {
		return st.Exit.Code, nil
	}
	return 255, fmt.Errorf("container %s %w", c.Name, errLost)
}

// leaving is how long a monitor that no longer answers may take to be gone: a process that ends closes its socket before it gives up its locks.
const leaving = 5 * time.Second

// dial opens a conversation with a running container's monitor.
func (h *Host) dial(c *record.Container) (*stage.Conn, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) { //nolint:forbidigo // the end of another process
		conn, err := stage.Dial(filepath.Join(h.Records.RunDir(c.ID), record.Socket))
		if err == nil {
			return conn, nil
		}
		st, statusErr := h.Records.Status(c.ID)
		if statusErr != nil {
			return nil, statusErr
		}
		if !st.Live() {
			return nil, fmt.Errorf("%w: %s", ErrNotRunning, c.Name)
		}
		gone := errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
		if !gone || time.Since(began) > leaving {
			return nil, err
		}
	}
}

// ErrNotRunning says that the container does not run.
var ErrNotRunning = processes.ErrNotRunning

// ErrPaused says that the container is paused.
var ErrPaused = errors.New("the container is paused: unpause it first")

// Attach connects to the container's first process.
func (h *Host) Attach(_ context.Context, c *record.Container, s *Streams, _ bool) (*Session, error) {
	conn, err := h.dial(c)
	if err != nil {
		return nil, err
	}
	session, err := h.open(conn, stage.Request{Op: stage.OpAttach}, s, func() (int, error) { return h.lost(c) })
	return session, h.notRunning(c, err)
}

// Exec starts another process in a running container.
func (h *Host) Exec(_ context.Context, c *record.Container, e stage.Exec, s *Streams) (*Session, error) {
	if paused, err := h.Records.Paused(c.ID); err != nil || paused {
		return nil, errors.Join(fmt.Errorf("cannot execute a process in container %s: %w", c.Name, ErrPaused), err)
	}
	conn, err := h.dial(c)
	if err != nil {
		return nil, err
	}
	session, err := h.open(conn, stage.Request{Op: stage.OpExec, Exec: &e}, s, func() (int, error) {
		return 255, fmt.Errorf("the process was lost: the monitor of container %s was killed", c.Name)
	})
	return session, h.notRunning(c, err)
}
