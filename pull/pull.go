package pull

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/oci/layout"
	transport "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	lib "go.podman.io/storage"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/ref"
)

// Options of Pull.
type Options struct {
	Access
	Platform Platform
	AllTags  bool
	// Unnamed leaves the names of the store as they are: the image is known by its id alone.
	Unnamed bool
	// Progress is called for every event, from another goroutine but one at a time; nil for silence.
	Progress func(Event)
}

// Image is one image that was moved.
type Image struct {
	ID    string   // 64 hex digits
	Names []string // in full
}

// Pull copies an image into the store: what name says (debian, docker://debian, oci:DIR[:NAME], dir:DIR, docker-archive:FILE[:NAME],
// oci-archive:FILE). Short names mean docker.io.
func Pull(ctx context.Context, s *storage.Store, name string, o Options) ([]Image, error) {
	unlock, err := s.Writing()
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // closes a descriptor
	scheme, rest, _ := strings.Cut(name, ":")
	switch scheme {
	case "docker":
		if path, ok := strings.CutPrefix(rest, "//"); ok {
			return pullNamed(ctx, s, path, o)
		}
	case "docker-archive", "oci-archive":
		return load(ctx, s, rest, scheme, LoadOptions{Platform: o.Platform, Progress: o.Progress})
	case "oci", "dir":
		return pullDirectory(ctx, s, scheme, rest, o)
	}
	return pullNamed(ctx, s, name, o)
}

// pullNamed pulls from a registry.
func pullNamed(ctx context.Context, s *storage.Store, name string, o Options) ([]Image, error) {
	named, err := parseNamed(name)
	if err != nil {
		return nil, err
	}
	sys, err := o.system(ctx, s, named)
	if err != nil {
		return nil, err
	}
	list := []reference.Named{named}
	if o.AllTags {
		if list, err = allTags(ctx, sys, name, named); err != nil {
			return nil, err
		}
	}
	var done []Image
	var errs []error
	for _, one := range list { // one tag's failure is not the others'
		source, err := docker.NewReference(oneReference(one))
		if err != nil {
			return done, fmt.Errorf("cannot pull %s: %w", name, err)
		}
		as := one
		if o.Unnamed {
			as = nil
		}
		img, err := pullOne(ctx, s, sys, source, as, o)
		if err == nil {
			done = append(done, img)
			continue
		}
		errs = append(errs, explain(ctx, "pull", reference.FamiliarString(one), reference.Domain(one), err))
		if ctx.Err() != nil {
			break
		}
	}
	return done, errors.Join(errs...)
}

// parseNamed normalises a registry image's name.
func parseNamed(name string) (reference.Named, error) {
	r, err := ref.Parse(name)
	if err != nil {
		return nil, err
	}
	return reference.ParseNormalizedNamed(r.String())
}

// oneReference drops the tag of a name with tag and digest: the digest says it all.
func oneReference(named reference.Named) reference.Named {
	d, digested := named.(reference.Digested)
	if _, both := named.(reference.Tagged); !digested || !both {
		return named
	}
	only, err := reference.WithDigest(reference.TrimNamed(named), d.Digest())
	if err != nil {
		return named
	}
	return only
}

// allTags lists a repository.
func allTags(ctx context.Context, sys *types.SystemContext, name string, named reference.Named) ([]reference.Named, error) {
	if r, err := ref.Parse(name); err == nil && (r.Digest != "" || strings.HasSuffix(name, ":"+r.Tag)) {
		return nil, &Error{What: "cannot pull all tags of " + name + ": the name has a tag or a digest itself", Help: "leave the tag out"}
	}
	source, err := docker.NewReference(named)
	if err != nil {
		return nil, err
	}
	tags, err := docker.GetRepositoryTags(ctx, sys, source)
	if err != nil {
		return nil, explain(ctx, "list the tags of", reference.FamiliarName(named), reference.Domain(named), err)
	}
	var list []reference.Named
	for _, tag := range tags {
		one, err := reference.WithTag(reference.TrimNamed(named), tag)
		if err != nil {
			return nil, fmt.Errorf("cannot pull tag %q of %s: %w", tag, name, err)
		}
		list = append(list, one)
	}
	return list, nil
}

// pullDirectory pulls from an OCI layout or the library's own "dir" format. Neither has a name for the image.
func pullDirectory(ctx context.Context, s *storage.Store, scheme, path string, o Options) ([]Image, error) {
	parse := directory.Transport.ParseReference
	if scheme == "oci" {
		parse = layout.Transport.ParseReference
	}
	source, err := parse(path)
	if err != nil {
		return nil, fmt.Errorf("cannot pull %s:%s: %w", scheme, path, err)
	}
	sys, err := o.system(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	img, err := pullOne(ctx, s, sys, source, nil, o)
	if err != nil {
		return nil, explain(ctx, "pull", scheme+":"+path, "", err)
	}
	return []Image{img}, nil
}

// pullOne copies one image into the store under a name, or under its id alone.
func pullOne(ctx context.Context, s *storage.Store, sys *types.SystemContext, source types.ImageReference, named reference.Named, o Options) (Image, error) {
	if err := ctx.Err(); err != nil {
		return Image{}, err
	}
	o.Platform.choose(sys)
	if o.Platform != (Platform{}) {
		if err := checkPlatform(ctx, source, sys, o.Platform); err != nil {
			return Image{}, err
		}
	}
	policy, err := o.policy(sys)
	if err != nil {
		return Image{}, err
	}
	defer policy.Destroy() //nolint:errcheck // frees memory
	target, err := destination(ctx, s, sys, source, named)
	if err != nil {
		return Image{}, err
	}
	title := source.StringWithinTransport()
	if named != nil {
		title = reference.FamiliarString(named)
	}
	tell := o.Progress
	if tell != nil {
		tell(Event{Kind: Begin, Name: title})
	}
	known := registryDigest(ctx, sys, source)
	var resolved types.ImageReference
	err = storage.Again(func() error {
		options := &copy.Options{SourceCtx: sys, DestinationCtx: sys, ReportResolvedReference: &resolved}
		done := events(options, tell)
		defer done()
		_, err := copy.Image(ctx, policy, target, source, options)
		return err
	})
	if errors.Is(err, lib.ErrDuplicateID) {
		return present(ctx, s, sys, source, named)
	}
	if err != nil {
		return Image{}, listPlatforms(ctx, source, sys, o.Platform, err)
	}
	_, stored, err := transport.ResolveReference(resolved)
	if err != nil {
		return Image{}, fmt.Errorf("cannot find the image just written: %w", err)
	}
	if d := <-known; named != nil && slices.Contains(stored.Digests, d) { // else the tag was moved meanwhile
		if err := s.NameDigest(stored.ID, named.Name(), d.String()); err != nil {
			return Image{}, err
		}
	}
	if tell != nil {
		tell(Event{Kind: End, Name: title, ID: stored.ID})
	}
	img := Image{ID: stored.ID}
	if named != nil {
		img.Names = []string{named.String()}
	}
	return img, nil
}

// registryDigest asks, beside the copying, for the digest that the registry has for a name: of an image for several platforms that of the list. The copying does not tell. The channel gives ""
// for what is in no registry; a registry that does not answer has that said by the copying itself.
func registryDigest(ctx context.Context, sys *types.SystemContext, source types.ImageReference) <-chan digest.Digest {
	known := make(chan digest.Digest, 1)
	if source.Transport().Name() != docker.Transport.Name() {
		close(known)
		return known
	}
	go func() {
		d, err := docker.GetDigest(ctx, sys, source)
		if err != nil {
			d = ""
		}
		known <- d
	}()
	return known
}

// present is an image that the store has already, over layers with other ids: older versions gave those of import and commit any. It gets the name.
func present(ctx context.Context, s *storage.Store, sys *types.SystemContext, source types.ImageReference, named reference.Named) (Image, error) {
	img, err := source.NewImage(ctx, sys)
	if err != nil {
		return Image{}, err
	}
	defer img.Close() //nolint:errcheck // only read from
	done := Image{ID: img.ConfigInfo().Digest.Encoded()}
	if named == nil {
		return done, nil
	}
	done.Names = []string{named.String()}
	return done, s.AddNames(done.ID, named.String())
}

// destination is the place in the store: a name, or without one the id that the configuration gives.
func destination(ctx context.Context, s *storage.Store, sys *types.SystemContext, source types.ImageReference, named reference.Named) (types.ImageReference, error) {
	if named != nil {
		return transport.Transport.NewStoreReference(s.Library(), oneReference(named), "")
	}
	img, err := source.NewImage(ctx, sys)
	if err != nil {
		return nil, listPlatforms(ctx, source, sys, Platform{}, err)
	}
	defer img.Close() //nolint:errcheck // only read from
	config := img.ConfigInfo().Digest
	if config == "" {
		return nil, errors.New("the image has no configuration")
	}
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("the digest of the image's configuration is malformed: %w", err)
	}
	return transport.Transport.NewStoreReference(s.Library(), nil, config.Encoded())
}

// listPlatforms explains the library's "no image found" for a platform by what there is.
func listPlatforms(ctx context.Context, source types.ImageReference, sys *types.SystemContext, asked Platform, err error) error {
	if !strings.Contains(err.Error(), "no image found in") {
		return err
	}
	src, srcErr := source.NewImageSource(ctx, sys)
	if srcErr != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read from
	have, _, listErr := platforms(ctx, src, sys)
	if listErr != nil || len(have) == 0 {
		return err
	}
	return noPlatform(source, asked, have)
}

// host is this machine's platform.
func host() Platform { return Platform{OS: "linux", Architecture: runtime.GOARCH} }
