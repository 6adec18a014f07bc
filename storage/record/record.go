// Package record is the schema of skiff's state on disk: every type that is stored of a container, every file name,
// and the rules of ARCHITECTURE.md section 6 (write once and rename, names claimed by symlink, status derived
// from locks). It knows what a container was asked to be and what became of it, not how to run one.
package record

import (
	"time"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Store is the two directories of one user's state. Data is $XDG_DATA_HOME/skiff (or --root), Run is
// $XDG_RUNTIME_DIR/skiff/<boot> (or under --runroot, or a 0700 directory of our own under /tmp).
type Store struct {
	Data string
	Run  string
}

// Options say where the state is; empty fields follow the XDG rules.
type Options struct {
	Root, RunRoot string
	Getenv        func(string) string
	Getuid        func() int
}

// Open finds (and makes) the two directories. It refuses a runtime directory that another user owns.
func Open(o Options) (*Store, error) { panic("stub") }

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
	Pid  int       `json:"pid"` // of init, in the host's pid namespace; trusted only while alive is locked
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
}

// Errors that callers test with errors.Is.
var (
	ErrNotFound  error // no such container
	ErrAmbiguous error // an id prefix that several containers share
	ErrNameInUse error
	ErrCorrupt   error // a record file that cannot be read: names the file and how to get rid of the container
)

// NewID makes a container id: 64 random hex digits.
func NewID() string { panic("stub") }

// Pending is a container being made under tmp-<id>, locked by its maker.
type Pending struct {
	Container *Container
	Dir       string // where its files are being made (containers/tmp-<id>)
	lock      *disk.Lock
	store     *Store
}

// Begin makes tmp-<id> and locks it.
func (s *Store) Begin(c *Container) (*Pending, error) { panic("stub") }

// Commit writes config.json, claims the name (choosing a free random one such as brave_curie when Name is empty) and renames into place.
func (p *Pending) Commit() error { panic("stub") }

// Abort removes what Begin made.
func (p *Pending) Abort() error { panic("stub") }

// Dir is the directory of a container's record; RunDir its runtime directory (first 16 digits of the id).
func (s *Store) Dir(id string) string    { panic("stub") }
func (s *Store) RunDir(id string) string { panic("stub") }

// Find resolves a full id, an unambiguous id prefix or a name.
func (s *Store) Find(nameOrID string) (*Container, error) { panic("stub") }

// Load reads one record by full id.
func (s *Store) Load(id string) (*Container, error) { panic("stub") }

// List reads all records, newest first. Records that cannot be read are returned joined in the error, beside the good ones.
func (s *Store) List() ([]*Container, error) { panic("stub") }

// Status derives a container's state from its files and its lock.
func (s *Store) Status(id string) (Status, error) { panic("stub") }

// Rename changes a container's name; the new one is claimed before the old one is freed.
func (s *Store) Rename(id, name string) error { panic("stub") }

// Retire takes a container out of sight: renames it to rm-<id> and frees its name. What is in it is deleted by Sweep.
func (s *Store) Retire(id string) error { panic("stub") }

// Sweep deletes every tmp- and rm- directory that nobody holds, and runtime directories of other boots. It runs inside the user namespace
// (files belong to subordinate ids).
func (s *Store) Sweep() error { panic("stub") }

// Event is one line of the append-only events file.
type Event struct {
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"` // container, image, volume, network
	Action     string            `json:"action"`
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes,omitzero"`
}

// Emit appends an event (one write, O_APPEND); the file is rotated when large.
func (s *Store) Emit(e Event) error { panic("stub") }
