package pull

import (
	"context"
	"fmt"
	"slices"
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
	"github.com/skiff-containers/skiff/storage/ref"
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
	if named != nil {
		if err := s.NameDigest(img.ID, named.Name(), sum.String()); err != nil {
			return Pushed{}, err
		}
	}
	if o.Progress != nil {
		o.Progress(Event{Kind: End, Name: title, ID: img.ID})
	}
	return Pushed{Name: title, Digest: sum.String(), Size: int64(len(raw))}, nil
}

// Tags are the names that images of the store have in a repository, sorted.
func Tags(s *storage.Store, repository string) ([]string, error) {
	named, err := parseNamed(repository)
	if err != nil {
		return nil, err
	}
	if r, err := ref.Parse(repository); err == nil && (r.Digest != "" || strings.HasSuffix(repository, ":"+r.Tag)) {
		return nil, &Error{What: "cannot push all tags of " + repository + ": the name has a tag or a digest itself", Help: "leave the tag out"}
	}
	all, err := s.Index.Names()
	if err != nil {
		return nil, err
	}
	var list []string
	for _, names := range all {
		for _, name := range names {
			if strings.HasPrefix(name, named.Name()+":") {
				list = append(list, name)
			}
		}
	}
	if len(list) == 0 {
		return nil, &Error{What: "no such image: " + repository, Err: storage.ErrNotFound, Help: "`skiff images` lists the local ones"}
	}
	slices.Sort(list)
	return list, nil
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
