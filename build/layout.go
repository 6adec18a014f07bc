package build

// This file writes what was built as an OCI layout: one manifest, or an index of several platforms. Nothing of it is kept in the store.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/ref"
)

// Written is what Layout wrote.
type Written struct {
	Top    ocispecs.Descriptor // the manifest, or the index
	Config string              // the digest of the configuration, when there is one image
}

// Layout writes the images into dir, which is new or empty, under names.
func (b *Built) Layout(ctx context.Context, dir string, annotations []Annotation, names ...string) (Written, error) {
	s, err := b.newBlobs(dir)
	if err != nil {
		return Written{}, err
	}
	var list, attested []ocispecs.Descriptor
	var done Written
	for i := range b.Images {
		img := &b.Images[i]
		d, config, err := b.manifest(ctx, s, img, annotationsFor(annotations, OnManifest, img.Platform))
		if err != nil {
			return done, err
		}
		if b.options.Provenance != nil {
			a, err := b.attest(ctx, s, img, d, names)
			if err != nil {
				return done, err
			}
			attested = append(attested, a)
		}
		d.Annotations = annotationsFor(annotations, OnManifestDescriptor, img.Platform)
		list, done.Top, done.Config = append(list, d), d, config.Digest.String()
	}
	list = append(list, attested...)
	if b.Indexed() {
		index := ocispecs.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex, Manifests: list, Annotations: annotationsFor(annotations, OnIndex, ""),
		}
		if done.Top, err = s.document(index, ocispecs.MediaTypeImageIndex); err != nil {
			return done, err
		}
		done.Top.Annotations = annotationsFor(annotations, OnIndexDescriptor, "")
		if len(b.Images) > 1 {
			done.Config = ""
		}
	}
	return done, s.finish(done.Top, names)
}

// Indexed says whether the images are written as an index.
func (b *Built) Indexed() bool { return len(b.Images) > 1 || b.options.Provenance != nil }

// manifest writes one image's layers, configuration and manifest.
func (b *Built) manifest(ctx context.Context, s *blobs, img *Image, annotations map[string]string) (d, config ocispecs.Descriptor, err error) {
	if b.options.Squash {
		if img, err = b.squash(ctx, img); err != nil {
			return d, config, err
		}
	}
	m := ocispecs.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, Layers: []ocispecs.Descriptor{}, Annotations: annotations}
	var diffs []string
	for _, l := range img.Tree {
		if ctx.Err() != nil {
			return d, config, context.Cause(ctx)
		}
		blob, err := s.layer(img, l)
		if err != nil {
			return d, config, err
		}
		diffs = append(diffs, blob.Annotations[ops.UncompressedKey])
		blob.Annotations = nil
		m.Layers = append(m.Layers, blob)
	}
	data, err := complete(img.Config, diffs, b.times(img), img.Epoch)
	if err != nil {
		return d, config, err
	}
	if m.Config, err = s.bytes(data, ocispecs.MediaTypeImageConfig); err != nil {
		return d, config, err
	}
	if d, err = s.document(m, ocispecs.MediaTypeImageManifest); err != nil {
		return d, config, err
	}
	p, err := platforms.Parse(img.Platform)
	if err != nil {
		return d, config, fmt.Errorf("cannot write an image for %q: %w", img.Platform, err)
	}
	d.Platform = &p
	return d, m.Config, nil
}

// finish writes the layout's own files: what it is, and one line of its index for each name.
func (s *blobs) finish(top ocispecs.Descriptor, names []string) error {
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex}
	for _, name := range names {
		r, err := ref.Parse(name)
		if err != nil {
			return err
		}
		one := top
		one.Annotations = map[string]string{"io.containerd.image.name": r.String(), ocispecs.AnnotationRefName: r.Tag}
		for k, v := range top.Annotations {
			one.Annotations[k] = v
		}
		index.Manifests = append(index.Manifests, one)
	}
	if len(names) == 0 {
		index.Manifests = append(index.Manifests, top)
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return errors.Join(
		disk.WriteFile(filepath.Join(s.dir, ocispecs.ImageIndexFile), data, 0o644, disk.Volatile),
		disk.WriteFile(filepath.Join(s.dir, ocispecs.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+ocispecs.ImageLayoutVersion+`"}`), 0o644, disk.Volatile),
	)
}
