// Package image is the index of local images: one small file per image with all that running, listing and
// inspecting need, and one symlink per name. The engine writes it when it writes the image proper into
// containers/storage; the front reads it without linking that library.
package image

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Image is images/<id>.json.
type Image struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`     // config digest, 64 hex digits
	Digest  string    `json:"digest"` // manifest digest, sha256:...
	Created time.Time `json:"created"`
	Size    int64     `json:"size"` // bytes, unpacked
	// Layers are the absolute directories of the unpacked layers, top first, as overlay's lowerdir wants them.
	Layers []string `json:"layers"`
	// RepoDigests are names with digest, docker.io/library/debian@sha256:...
	RepoDigests []string `json:"repo_digests,omitzero"`
	// Config is the image's configuration (with history and rootfs), and Health what Docker adds to it.
	Config   ocispec.Image `json:"config"`
	Health   *Health       `json:"health,omitempty"`
	Shell    []string      `json:"shell,omitempty"`
	OnBuild  []string      `json:"onbuild,omitempty"`
	ReadOnly bool          `json:"read_only,omitzero"` // in an additional store
}

// Health is a HEALTHCHECK of a Docker image config.
type Health struct {
	Test          []string      `json:"test,omitempty"`
	Interval      time.Duration `json:"interval,omitzero"`
	Timeout       time.Duration `json:"timeout,omitzero"`
	StartPeriod   time.Duration `json:"start_period,omitzero"`
	StartInterval time.Duration `json:"start_interval,omitzero"`
	Retries       int           `json:"retries,omitzero"`
}

// ErrNotFound and ErrAmbiguous are tested with errors.Is.
var ErrNotFound, ErrAmbiguous error

// Index is <data>/images: <id>.json files, and names/<escaped name> symlinks to ids.
type Index struct{ dir string }

// Open names the index under a data directory; nothing is made until something is written.
func Open(data string) *Index { return &Index{dir: data + "/images"} }

// Find resolves what a user typed: a name (short names mean docker.io/library/, no tag means latest), name@digest, an id or an id prefix.
func (x *Index) Find(s string) (*Image, error) { panic("stub") }

// Load reads one image by full id.
func (x *Index) Load(id string) (*Image, error) { panic("stub") }

// List reads all images, newest first.
func (x *Index) List() ([]*Image, error) { panic("stub") }

// Names maps every image id to its names (docker.io/library/debian:12), sorted.
func (x *Index) Names() (map[string][]string, error) { panic("stub") }

// Put writes an image; Tag points a name at it; Untag removes a name; Delete removes the image's file and names.
func (x *Index) Put(img *Image) error      { panic("stub") }
func (x *Index) Tag(name, id string) error { panic("stub") }
func (x *Index) Untag(name string) error   { panic("stub") }
func (x *Index) Delete(id string) error    { panic("stub") }

// Lock excludes image removal (Exclusive) from container creation (Shared).
func (x *Index) Lock(mode disk.Mode) (*disk.Lock, error) { panic("stub") }
