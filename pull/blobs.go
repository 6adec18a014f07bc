package pull

// This file reads single blobs of an image, or of anything else that a registry or an OCI layout has, without taking it into the store.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"

	"github.com/skiff-containers/skiff/storage"
)

// maxDocument is the size of the largest manifest or configuration that is read, in bytes.
const maxDocument = 32 << 20

// Blobs is an opened image or artifact. Its methods may be called at once.
type Blobs struct {
	src   types.ImageSource
	title string
}

// OpenBlobs opens what a registry has under a name.
func OpenBlobs(ctx context.Context, s *storage.Store, name string, a Access) (*Blobs, error) {
	named, err := parseNamed(name)
	if err != nil {
		return nil, err
	}
	sys, err := a.system(ctx, s, named)
	if err != nil {
		return nil, err
	}
	place, err := docker.NewReference(oneReference(named))
	if err != nil {
		return nil, err
	}
	src, err := place.NewImageSource(ctx, sys)
	if err != nil {
		return nil, explain(ctx, "read", reference.FamiliarString(named), reference.Domain(named), err)
	}
	return &Blobs{src: src, title: reference.FamiliarString(named)}, nil
}

// OpenLayout opens line index of an OCI layout's index.
func OpenLayout(ctx context.Context, s *storage.Store, dir string, index int) (*Blobs, error) {
	sys, err := Access{}.system(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	place, err := layout.NewIndexReference(dir, index)
	if err != nil {
		return nil, err
	}
	src, err := place.NewImageSource(ctx, sys)
	if err != nil {
		return nil, explain(ctx, "read", dir, "", err)
	}
	return &Blobs{src: src, title: dir}, nil
}

// Manifest is the top document, or one that an index has, and its media type.
func (b *Blobs) Manifest(ctx context.Context, of *digest.Digest) ([]byte, string, error) {
	data, kind, err := b.src.GetManifest(ctx, of)
	if err == nil && of != nil && of.Algorithm().FromBytes(data) != *of {
		err = errors.New("its digest is another than asked for")
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read a manifest of %s: %w", b.title, err)
	}
	return data, kind, nil
}

// Open reads a blob. What comes is what the other side sends: its digest is for the reader to check.
func (b *Blobs) Open(ctx context.Context, d ocispecs.Descriptor) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("cannot read a blob of %s: %w", b.title, err)
	}
	r, _, err := b.src.GetBlob(ctx, types.BlobInfo{Digest: d.Digest, Size: d.Size, MediaType: d.MediaType}, none.NoCache)
	if err != nil {
		return nil, fmt.Errorf("cannot read blob %s of %s: %w", d.Digest, b.title, err)
	}
	return r, nil
}

// Read reads a small blob and checks its digest.
func (b *Blobs) Read(ctx context.Context, d ocispecs.Descriptor) ([]byte, error) {
	r, err := b.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err = errors.Join(err, r.Close()); err == nil && d.Digest.Algorithm().FromBytes(data) != d.Digest {
		err = errors.New("its digest is another than asked for")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read blob %s of %s: %w", d.Digest, b.title, err)
	}
	return data, nil
}

// Close ends reading.
func (b *Blobs) Close() error { return b.src.Close() }
