package build

// This file is the blobs of an OCI layout that is being written: layers as compressed archives, and documents.

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/build/snap"
)

// blobs is a directory with the blobs of an OCI layout. A layer is written once, however many ask for it.
type blobs struct {
	built *Built
	dir   string
	mu    sync.Mutex
	known map[string]ocispecs.Descriptor // of layers, by the name of their directory
}

// newBlobs makes the directory of a layout.
func (b *Built) newBlobs(dir string) (*blobs, error) {
	s := &blobs{built: b, dir: dir, known: map[string]ocispecs.Descriptor{}}
	if err := os.MkdirAll(filepath.Join(dir, ocispecs.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make an OCI layout: %w", err)
	}
	return s, nil
}

// put writes a blob, as a temporary file first: its name follows from its contents.
func (s *blobs) put(write func(io.Writer) error) (d ocispecs.Descriptor, err error) {
	into := filepath.Join(s.dir, ocispecs.ImageBlobsDir, "sha256")
	f, err := os.CreateTemp(into, "blob-")
	if err != nil {
		return d, fmt.Errorf("cannot write a blob: %w", err)
	}
	h := &counted{Hash: sha256.New()}
	err = write(io.MultiWriter(f, h))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return d, errors.Join(fmt.Errorf("cannot write a blob: %w", err), os.Remove(f.Name()))
	}
	d.Digest, d.Size = digest.NewDigest(digest.SHA256, h), h.n
	if err := os.Rename(f.Name(), filepath.Join(into, d.Digest.Encoded())); err != nil {
		return d, fmt.Errorf("cannot write a blob: %w", err)
	}
	return d, nil
}

// counted is a hash that knows how much it was given.
type counted struct {
	hash.Hash
	n int64
}

// Write counts and hashes.
func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.Hash.Write(p)
}

// bytes writes a blob that is in memory.
func (s *blobs) bytes(data []byte, mediaType string) (ocispecs.Descriptor, error) {
	d, err := s.put(func(w io.Writer) error { _, err := w.Write(data); return err })
	d.MediaType = mediaType
	return d, err
}

// document writes a value as JSON.
func (s *blobs) document(v any, mediaType string) (ocispecs.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	return s.bytes(data, mediaType)
}

// layer writes a layer of a tree, compressed; its digest from before is among the annotations.
func (s *blobs) layer(img *Image, l snap.Layer) (ocispecs.Descriptor, error) {
	s.mu.Lock()
	d, ok := s.known[l.Dir]
	s.mu.Unlock()
	if ok {
		return d, nil
	}
	plain := sha256.New()
	d, err := s.put(func(w io.Writer) error {
		z := pgzip.NewWriter(w) // its blocks have one size: the same layer gives the same blob on every machine
		return errors.Join(s.built.archive(io.MultiWriter(z, plain), img, l), z.Close())
	})
	if err != nil {
		return d, err
	}
	d.MediaType = ocispecs.MediaTypeImageLayerGzip
	d.Annotations = map[string]string{ops.UncompressedKey: digest.NewDigest(digest.SHA256, plain).String()}
	s.mu.Lock()
	s.known[l.Dir] = d
	s.mu.Unlock()
	return d, nil
}

// has says whether a layer has been written.
func (s *blobs) has(l snap.Layer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.known[l.Dir]
	return ok
}

// archive writes a layer as a plain archive: a step's own files, or a layer of the store as it came.
func (b *Built) archive(w io.Writer, img *Image, l snap.Layer) error {
	if l.Own {
		root, err := os.Open(l.Dir)
		if err != nil {
			return fmt.Errorf("cannot read a step: %w", err)
		}
		defer root.Close() // only read from
		o := files.TarOptions{Changes: true}
		if b.options.Rewrite && img.Epoch != nil {
			o.Latest = *img.Epoch
		}
		return files.Tar(w, root, o)
	}
	if err := b.images.LayerTar(w, l.ID); err != nil {
		return fmt.Errorf("cannot read the base image: %w", err)
	}
	return nil
}
