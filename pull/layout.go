package pull

// This file takes OCI layouts that lie in a directory elsewhere: into an archive, or to a registry.

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/copy"
	docker "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/oci/layout"

	"github.com/skiff-containers/skiff/storage"
)

// ArchiveLayout writes the files of an OCI layout as an archive.
func ArchiveLayout(ctx context.Context, out io.Writer, dir string) error {
	w := tar.NewWriter(out)
	if err := archiveLayout(ctx, w, dir); err != nil {
		return fmt.Errorf("cannot write an OCI archive: %w", err)
	}
	return w.Close()
}

// DockerArchive writes the first image of an OCI layout, which is no index, as a docker-archive under names.
func DockerArchive(ctx context.Context, s *storage.Store, out io.Writer, dir string, names []string) error {
	sys, err := Access{}.system(ctx, s, nil)
	if err != nil {
		return err
	}
	source, err := layout.NewIndexReference(dir, 0)
	if err != nil {
		return err
	}
	var tags []reference.NamedTagged
	for _, name := range names {
		named, err := parseNamed(name)
		if err != nil {
			return err
		}
		if tagged, ok := named.(reference.NamedTagged); ok {
			tags = append(tags, tagged)
		}
	}
	var first reference.NamedTagged
	if len(tags) > 0 {
		first, sys.DockerArchiveAdditionalTags = tags[0], tags[1:]
	}
	policy, err := trustAll()
	if err != nil {
		return err
	}
	defer policy.Destroy() //nolint:errcheck // frees memory
	return piped(out, func(path string) (err error) {
		w, err := docker.NewWriter(sys, path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		place, err := w.NewReference(first)
		if err != nil {
			return err
		}
		_, err = copy.Image(ctx, policy, place, source, &copy.Options{
			SourceCtx: sys, DestinationCtx: sys, ForceManifestMIMEType: manifest.DockerV2Schema2MediaType, RemoveSignatures: true,
		})
		return err
	})
}

// PushLayout copies what the first line of an OCI layout's index names, with everything below it, to a registry.
func PushLayout(ctx context.Context, s *storage.Store, dir, target string, o PushOptions) (Pushed, error) {
	source, err := layout.NewIndexReference(dir, 0)
	if err != nil {
		return Pushed{}, err
	}
	to, err := pushTarget(target)
	if err != nil {
		return Pushed{}, fmt.Errorf("cannot push %s: %w", target, err)
	}
	// The digests are those that were just told: nothing may be changed on the way.
	raw, err := to.copy(ctx, s, source, &copy.Options{ImageListSelection: copy.CopyAllImages, PreserveDigests: true}, o.Access)
	if err != nil {
		return Pushed{}, err
	}
	return Pushed{Name: to.title, Digest: digest.FromBytes(raw).String(), Size: int64(len(raw))}, nil
}
