// Package image is the index of local images: one small file per image with all that running, listing and
// inspecting need, and one symlink per name. The engine writes it when it writes the image proper into
// containers/storage; the front reads it without linking that library.
package image

import (
	"time"
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
	// Sizes are the bytes of each of Layers, unpacked. A file that an older skiff wrote has none until the engine next compares it with the store.
	Sizes []int64 `json:"sizes,omitempty"`
	// RepoDigests are names with digest, docker.io/library/debian@sha256:...
	RepoDigests []string `json:"repo_digests,omitzero"`
	// Config is the image's configuration (with history and rootfs), and Health what Docker adds to it.
	Config   Config   `json:"config"`
	Health   *Health  `json:"health,omitempty"`
	Shell    []string `json:"shell,omitempty"`
	OnBuild  []string `json:"onbuild,omitempty"`
	ReadOnly bool     `json:"read_only,omitzero"` // in an additional store
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

// Config is an image's configuration file, in the form that OCI's and Docker's share (image-spec, config.md). It is written out
// here because image-spec's own package brings regular expressions into every start of the program.
type Config struct {
	Created      *time.Time `json:"created,omitempty"`
	Author       string     `json:"author,omitempty"`
	Architecture string     `json:"architecture"`
	Variant      string     `json:"variant,omitempty"`
	OS           string     `json:"os"`
	OSVersion    string     `json:"os.version,omitempty"`
	Config       Defaults   `json:"config"`
	RootFS       RootFS     `json:"rootfs"`
	History      []History  `json:"history,omitempty"`
}

// Defaults are what the image says of containers made from it.
type Defaults struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
}

// RootFS lists the digests of the uncompressed layers, lowest first.
type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// History is one step of how the image was made.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}
