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
	to, err := pushTarget(target)
	if err != nil {
		return Pushed{}, fmt.Errorf("cannot push %s: %w", name, err)
	}
	if o.Progress != nil {
		o.Progress(Event{Kind: Begin, Name: to.title})
	}
	options := &copy.Options{}
	done := events(options, o.Progress)
	raw, err := to.copy(ctx, s, source, options, o.Access)
	done()
	if err != nil {
		return Pushed{}, err
	}
	sum, err := manifest.Digest(raw)
	if err != nil {
		sum = digest.FromBytes(raw)
	}
	if to.named != nil {
		if err := s.NameDigest(img.ID, to.named.Name(), sum.String()); err != nil {
			return Pushed{}, err
		}
	}
	if o.Progress != nil {
		o.Progress(Event{Kind: End, Name: to.title, ID: img.ID})
	}
	return Pushed{Name: to.title, Digest: sum.String(), Size: int64(len(raw))}, nil
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

// pushPlace is where to push to.
type pushPlace struct {
	place           types.ImageReference
	named           reference.Named // nil when it is no registry
	title, registry string          // for people
}

// pushTarget reads where to push to.
func pushTarget(target string) (to pushPlace, err error) {
	to.title = target
	scheme, rest, _ := strings.Cut(target, ":")
	switch scheme {
	case "oci":
		to.place, err = layout.Transport.ParseReference(rest)
		return to, err
	case "dir":
		to.place, err = directory.Transport.ParseReference(rest)
		return to, err
	case "docker":
		target = strings.TrimPrefix(target, "docker://")
	}
	if to.named, err = parseNamed(target); err != nil {
		return to, err
	}
	if _, digested := to.named.(reference.Digested); digested {
		return to, fmt.Errorf("%q has a digest, which follows from the image", target)
	}
	to.title, to.registry = reference.FamiliarString(to.named), reference.Domain(to.named)
	to.place, err = docker.NewReference(to.named)
	return to, err
}

// copy copies an image there, and returns its manifest.
func (to pushPlace) copy(ctx context.Context, s *storage.Store, source types.ImageReference, o *copy.Options, a Access) ([]byte, error) {
	sys, err := a.system(ctx, s, to.named)
	if err != nil {
		return nil, err
	}
	policy, err := trustAll()
	if err != nil {
		return nil, err
	}
	defer policy.Destroy() //nolint:errcheck // frees memory
	o.SourceCtx, o.DestinationCtx = sys, sys
	raw, err := copy.Image(ctx, policy, to.place, source, o)
	if err != nil {
		return nil, explain(ctx, "push", to.title, to.registry, err)
	}
	return raw, nil
}
