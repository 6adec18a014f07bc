package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// The files of a container's directory.
const (
	fileLock   = "lock"
	fileConfig = "config.json"
	fileState  = "state.json"
	fileStart  = "start"
)

// ErrNotFound says that there is no container of a name.
var ErrNotFound = errors.New("container does not exist")

// Saved is what is known of a container beside its spec: state.json. It is written once, when the container is created.
type Saved struct {
	Version string    `json:"version"` // of this file
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"`
	Rootfs  string    `json:"rootfs"`
	Pid     int       `json:"pid"`
	Birth   uint64    `json:"birth"` // when the process began, as the kernel counts: a pid alone may be another's by now
	Created time.Time `json:"created"`
	Groups  []string  `json:"groups,omitzero"` // control groups made for it
	Steps   []string  `json:"steps"`           // for oci.Launch
}

// savedVersion is Saved's.
const savedVersion = "1"

// Container is one in the root directory.
type Container struct {
	Saved
	Dir  string
	Spec *specs.Spec
	// Warnings are what the last operation could not grant and went on without.
	Warnings []string
}

// State is what the state operation answers with: the runtime spec's, and what other runtimes say besides.
type State struct {
	specs.State
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
}

// Load reads the container of that id below root. One whose creation was cut off is ErrNotFound.
func Load(root, id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &Container{Dir: filepath.Join(root, id), Spec: &specs.Spec{}}
	for _, f := range []struct {
		name string
		into any
	}{{fileState, &c.Saved}, {fileConfig, c.Spec}} {
		data, err := os.ReadFile(filepath.Join(c.Dir, f.name))
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%q: %w", id, ErrNotFound)
		}
		if err == nil {
			err = json.Unmarshal(data, f.into)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the state of container %q: %w", id, err)
		}
	}
	return c, nil
}

// checkID refuses ids that are no file name (runtime-spec leaves their form open; other runtimes take the same).
func checkID(id string) error {
	bad := id == "" || id == "." || id == ".." || len(id) > 255 || strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("_+.-", r)
	})
	if bad {
		return fmt.Errorf("invalid container id %q: it is made of letters, digits and _+.-", id)
	}
	return nil
}

// Status asks the kernel what has become of the container.
func (c *Container) Status() specs.ContainerState {
	if birth, err := birthOf(c.Pid); err != nil || birth != c.Birth {
		return specs.StateStopped
	}
	if _, err := os.Lstat(filepath.Join(c.Dir, fileStart)); err == nil {
		return specs.StateCreated
	}
	return specs.StateRunning
}

// State is the answer of the state operation.
func (c *Container) State() State {
	s := State{State: c.stateAs(c.Status()), Rootfs: c.Rootfs, Created: c.Created}
	if s.Status == specs.StateStopped {
		s.Pid = 0
	}
	return s
}

func (c *Container) stateAs(status specs.ContainerState) specs.State {
	return specs.State{Version: specs.Version, ID: c.ID, Status: status, Pid: c.Pid, Bundle: c.Bundle, Annotations: c.Spec.Annotations}
}

// birthOf is when a process began, in clock ticks since boot (proc_pid_stat(5), field 22). An ended one that nobody has waited for is an error too.
func birthOf(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may contain anything.
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return 0, fmt.Errorf("cannot read /proc/%d/stat", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return 0, unix.ESRCH
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// open is a pidfd of the container's first process; it has ended when that is nil.
func (c *Container) open() (*os.File, error) {
	fd, err := unix.PidfdOpen(c.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the first process of container %q: %w", c.ID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// What the pidfd refers to cannot change any more, so the number means the same process if it does now.
	if birth, err := birthOf(c.Pid); err != nil || birth != c.Birth {
		return nil, f.Close()
	}
	return f, nil
}

// lock waits for whoever changes the container.
func lockDir(dir string) (*disk.Lock, error) {
	return disk.WaitLock(filepath.Join(dir, fileLock), disk.Exclusive, nil)
}

// List loads all containers below root.
func List(root string) ([]*Container, error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	var list []*Container
	for _, e := range entries {
		c, err := Load(root, e.Name())
		if errors.Is(err, ErrNotFound) || checkID(e.Name()) != nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}
