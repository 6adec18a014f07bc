package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Layer is an unpacked layer that no image may use yet. Writing it and the image that uses it happens under one Writing lock.
type Layer struct {
	ID     string
	DiffID string // sha256:... of the uncompressed archive
	Size   int64  // of the uncompressed archive
}

// Writing is held while layers are being added: layers that no image uses are not swept meanwhile.
func (s *Store) Writing() (unlock func() error, err error) {
	lock, err := disk.WaitLock(s.writersLock(), disk.Shared, nil)
	if err != nil {
		return nil, explain("lock the store", s.data, err)
	}
	return lock.Unlock, nil
}

func (s *Store) writersLock() string { return filepath.Join(s.data, "storage", "writers.lock") }

// PutLayer unpacks an archive, plain or compressed, as a layer over parent ("" for a first one).
func (s *Store) PutLayer(parent string, archive io.Reader) (Layer, error) {
	l, _, err := s.lib.PutLayer("", parent, nil, "", false, nil, archive)
	if err != nil {
		return Layer{}, fmt.Errorf("cannot unpack a layer: %w", err)
	}
	return Layer{ID: l.ID, DiffID: l.UncompressedDigest.String(), Size: l.UncompressedSize}, nil
}

// PutLayerAs is PutLayer for an archive whose digest is known already: the layer gets the id that pulling and loading give it, and one that is
// there is taken as it is.
func (s *Store) PutLayerAs(diffID, parent string, archive io.Reader) (Layer, error) {
	d, err := digest.Parse(diffID)
	if err != nil {
		return Layer{}, fmt.Errorf("cannot unpack a layer: %w", err)
	}
	// The rule of go.podman.io/image (storage_dest.go, layerID).
	id := d.Encoded()
	if parent != "" {
		id = hexSum([]byte(parent + "+" + id))
	}
	if l, err := s.lib.Layer(id); err == nil && l.UncompressedDigest == d {
		return Layer{ID: id, DiffID: diffID, Size: l.UncompressedSize}, nil
	}
	l, _, err := s.lib.PutLayer(id, parent, nil, "", false, nil, archive)
	if errors.Is(err, storage.ErrDuplicateID) { // another build was faster
		if l, err = s.lib.Layer(id); err == nil && l.UncompressedDigest == d {
			return Layer{ID: id, DiffID: diffID, Size: l.UncompressedSize}, nil
		}
	}
	if err != nil {
		return Layer{}, fmt.Errorf("cannot unpack a layer: %w", err)
	}
	if l.UncompressedDigest != d {
		return Layer{}, errors.Join(fmt.Errorf("cannot unpack a layer: its digest is %s, not %s", l.UncompressedDigest, d), s.lib.DeleteLayer(id))
	}
	return Layer{ID: l.ID, DiffID: diffID, Size: l.UncompressedSize}, nil
}

// ImageLayers lists an image's layers, lowest first.
func (s *Store) ImageLayers(id string) ([]Layer, error) {
	img, err := s.lib.Image(id)
	if err != nil {
		return nil, explain("read image", short(id), err)
	}
	var list []Layer
	for top := img.TopLayer; top != ""; {
		l, err := s.lib.Layer(top)
		if err != nil {
			return nil, explain("read a layer of image", short(id), err)
		}
		list = append(list, Layer{ID: l.ID, DiffID: l.UncompressedDigest.String(), Size: l.UncompressedSize})
		top = l.Parent
	}
	slices.Reverse(list)
	return list, nil
}

// DropLayer removes a layer that PutLayer made and no image uses.
func (s *Store) DropLayer(l Layer) error { return s.lib.DeleteLayer(l.ID) }

// PutImage records an image of layers (lowest first) with a configuration in Docker's format, and returns its id. An image with the same
// configuration is the same image: then only the names are new.
func (s *Store) PutImage(layers []Layer, config []byte, names ...string) (string, error) {
	id := hexSum(config)
	full, err := fullNames(names)
	if err != nil {
		return "", err
	}
	manifest, err := dockerManifest(layers, config)
	if err != nil {
		return "", err
	}
	sum := digest.Digest("sha256:" + hexSum(manifest))
	top := ""
	if n := len(layers); n > 0 {
		top = layers[n-1].ID
	}
	// The names come after the image: another image may have them until then.
	_, err = s.lib.CreateImage(id, nil, top, "{}", &storage.ImageOptions{
		Digest: sum,
		BigData: []storage.ImageBigDataOption{
			{Key: "sha256:" + id, Data: config, Digest: digest.Digest("sha256:" + id)},
			{Key: storage.ImageDigestBigDataKey + "-" + sum.String(), Data: manifest, Digest: sum},
			{Key: storage.ImageDigestBigDataKey, Data: manifest, Digest: sum},
		},
	})
	if (err == nil || errors.Is(err, storage.ErrDuplicateID)) && len(full) > 0 {
		err = s.lib.AddNames(id, full)
	} else if errors.Is(err, storage.ErrDuplicateID) {
		err = nil
	}
	if err != nil {
		return "", explain("write image", short(id), err)
	}
	return id, nil
}

// dockerManifest is the manifest (schema 2) of layers kept as plain archives.
func dockerManifest(layers []Layer, config []byte) ([]byte, error) {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Size      int64  `json:"size"`
		Digest    string `json:"digest"`
	}
	list := []descriptor{}
	for _, l := range layers {
		list = append(list, descriptor{"application/vnd.docker.image.rootfs.diff.tar", l.Size, l.DiffID})
	}
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.docker.distribution.manifest.v2+json",
		"config":        descriptor{"application/vnd.docker.container.image.v1+json", int64(len(config)), "sha256:" + hexSum(config)},
		"layers":        list,
	})
	return bytes.TrimSpace(b.Bytes()), err
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
