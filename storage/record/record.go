// Package record is the schema of skiff's state on disk: every type that is stored of a container, every file name,
// and the rules of ARCHITECTURE.md section 6 (write once and rename, names claimed by symlink, status derived
// from locks). It knows what a container was asked to be and what became of it, not how to run one.
package record

import (
	"time"

	"github.com/skiff-containers/skiff/run/config"
)

// Version is the version of the record files. Readers accept it and older ones.
const Version = 1

// Store is the two directories of one user's state. Data is $XDG_DATA_HOME/skiff (or --root), Run is
// $XDG_RUNTIME_DIR/skiff/<boot> (or under --runroot, or a 0700 directory of our own under /tmp).
type Store struct {
	Data string
	Run  string
}

// Container is config.json: what was asked and what it resolved to when it was created.
type Container struct {
	Version int       `json:"version"`
	ID      string    `json:"id"` // 64 hex digits
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// ImageID is the image's id (64 hex digits), ImageName the name it was asked by, normalised for display as Docker does.
	ImageID   string        `json:"image_id"`
	ImageName string        `json:"image_name"`
	Config    config.Config `json:"config"`
	// Path and Args are the words of the process, entrypoint and command merged.
	Path string   `json:"path"`
	Args []string `json:"args,omitzero"`
	// Layer is how the writable layer is made: overlay, fuse-overlayfs or vfs.
	Layer string `json:"layer,omitzero"`
	// Volumes lists the volumes the container uses, by name; Anonymous those of them it made and `rm -v` removes.
	Volumes   []VolumeUse `json:"volumes,omitzero"`
	Anonymous []string    `json:"anonymous,omitzero"`
}

// VolumeUse is one volume at one place in the container.
type VolumeUse struct {
	Name   string `json:"name"`
	Target string `json:"target"`
}

// Started is the file of one life of a container, written when its process has been executed.
type Started struct {
	Life int       `json:"life"` // 1, 2, ... one per start
	Boot string    `json:"boot"`
	At   time.Time `json:"at"`
	// Up is At on the clock that nobody sets: since the machine's start, in nanoseconds (CLOCK_BOOTTIME).
	Up  time.Duration `json:"up,omitzero"`
	Pid int           `json:"pid"` // of init, in the host's pid namespace; trusted only while alive is locked
	// Ports are published as they really are (none is any free one), Networks where the container is.
	Ports    []config.Port `json:"ports,omitzero"`
	Networks []Endpoint    `json:"networks,omitzero"`
	// Restarts is how often its restart policy has started it again since somebody started it.
	Restarts int `json:"restarts,omitzero"`
}

// Endpoint is a container's place on one network.
type Endpoint struct {
	Network    string   `json:"network"`
	NetworkID  string   `json:"network_id"`
	EndpointID string   `json:"endpoint_id"`
	IPv4       string   `json:"ipv4,omitzero"` // with the prefix's length
	Gateway4   string   `json:"gateway4,omitzero"`
	IPv6       string   `json:"ipv6,omitzero"`
	Gateway6   string   `json:"gateway6,omitzero"`
	MAC        string   `json:"mac"`
	Aliases    []string `json:"aliases,omitzero"`
	Names      []string `json:"names,omitzero"` // all that it is called there
}

// Exit is the end of one life.
type Exit struct {
	Life      int       `json:"life"`
	Code      int       `json:"code"`
	At        time.Time `json:"at"`
	OOMKilled bool      `json:"oom_killed,omitzero"`
	Error     string    `json:"error,omitzero"` // why it could not be started
}

// State is Docker's word for what a container is doing.
type State string

// The states. Lost is shown as exited with code 255 and a hint.
const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting"
	Removing   State = "removing"
	Exited     State = "exited"
	Lost       State = "lost"
)

// Status is derived, never stored.
type Status struct {
	State   State
	Started *Started
	Exit    *Exit
	// Health is what the health checks of the present life found; nil without any, and when nobody has looked (Store.Health).
	Health *Health
}

// Live says whether a monitor has the container in hand: it runs, or its restart policy is about to start it again.
func (s Status) Live() bool { return s.Running() || s.State == Restarting }

// Running says whether the container's first process lives.
func (s Status) Running() bool { return s.State == Running || s.State == Paused }

// The words for a container's health, as Docker's.
const (
	HealthStarting  = "starting"
	HealthGood      = "healthy"
	HealthBad       = "unhealthy"
	HealthUnchecked = "none"
)

// Health is what the health checks of the last life found.
type Health struct {
	Life          int           `json:"life"`
	Status        string        `json:"status"`
	FailingStreak int           `json:"failing_streak,omitzero"`
	Log           []HealthProbe `json:"log,omitzero"` // the last five
}

// HealthProbe is one health check.
type HealthProbe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exit_code"` // -1: it did not end by itself
	Output   string    `json:"output,omitzero"`
}

// Event is one line of the append-only events file.
type Event struct {
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"` // container, image, volume, network
	Action     string            `json:"action"`
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes,omitzero"`
}
