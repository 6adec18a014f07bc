package pull

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/oci/layout"
	transport "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"github.com/skiff-containers/skiff/storage"
)

// PushOptions of Push.
type PushOptions struct {
	Access
	Progress func(Event)
}

// Pushed is one image in its registry.
type Pushed struct {
	Name   string
	Digest string
	Size   int64 // of the manifest
}

// Push copies a local image to a registry, under its own name or another (NAME, docker://NAME, oci:DIR[:NAME], dir:DIR).
func Push(ctx context.Context, s *storage.Store, name, target string, o PushOptions) (Pushed, error) {
	img, err := s.Find(name)
	if err != nil {
		return Pushed{}, err
	}
	if target == "" {
		target = name
	}
	source, err := transport.Transport.NewStoreReference(s.Library(), nil, img.ID)
	if err != nil {
		return Pushed{}, fmt.Errorf("cannot push %s: %w", name, err)
	}
	place, named, err := pushTarget(target)
	if err != nil {
		return Pushed{}, fmt.Errorf("cannot push %s: %w", name, err)
	}
	sys, err := o.system(ctx, s, named)
	if err != nil {
		return Pushed{}, err
	}
	policy, err := trustAll()
	if err != nil {
		return Pushed{}, err
	}
	defer policy.Destroy() //nolint:errcheck // frees memory
	title, registry := target, ""
	if named != nil {
		title, registry = reference.FamiliarString(named), reference.Domain(named)
	}
	if o.Progress != nil {
		o.Progress(Event{Kind: Begin, Name: title})
	}
	options := &copy.Options{SourceCtx: sys, DestinationCtx: sys}
	done := events(options, o.Progress)
	raw, err := copy.Image(ctx, policy, place, source, options)
	done()
	if err != nil {
		return Pushed{}, explain(ctx, "push", title, registry, err)
	}
	sum, err := manifest.Digest(raw)
	if err != nil {
		sum = digest.FromBytes(raw)
	}
	if o.Progress != nil {
		o.Progress(Event{Kind: End, Name: title, ID: img.ID})
	}
	return Pushed{Name: title, Digest: sum.String(), Size: int64(len(raw))}, nil
}

// pushTarget reads where to push to; named is nil when that is no registry.
func pushTarget(target string) (types.ImageReference, reference.Named, error) {
	scheme, rest, _ := strings.Cut(target, ":")
	switch scheme {
	case "oci":
		place, err := layout.Transport.ParseReference(rest)
		return place, nil, err
	case "dir":
		place, err := directory.Transport.ParseReference(rest)
		return place, nil, err
	case "docker":
		target = strings.TrimPrefix(target, "docker://")
	}
	named, err := parseNamed(target)
	if err != nil {
		return nil, nil, err
	}
	if _, digested := named.(reference.Digested); digested {
		return nil, nil, fmt.Errorf("%q has a digest, which follows from the image", target)
	}
	place, err := docker.NewReference(named)
	return place, named, err
}
