package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	packed "go.podman.io/storage/pkg/archive"

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

// writersFile is the lock of whoever adds layers, in the store.
const writersFile = "writers.lock"

func (s *Store) writersLock() string { return filepath.Join(s.data, "storage", writersFile) }

// PutLayer unpacks an archive, plain or compressed, as a layer over parent ("" for a first one). The archive is kept in a file without a name meanwhile: a layer's id
// follows from its contents, and pulling and loading would not find one with another.
func (s *Store) PutLayer(parent string, in io.Reader) (Layer, error) {
	l, err := s.putLayer(parent, in)
	if err != nil {
		return Layer{}, unpackError(err)
	}
	return l, nil
}

func (s *Store) putLayer(parent string, in io.Reader) (Layer, error) {
	f, err := os.CreateTemp(s.Scratch(), "layer-")
	if err != nil {
		return Layer{}, err
	}
	defer f.Close() // what was written has been read
	if err := os.Remove(f.Name()); err != nil {
		return Layer{}, err
	}
	copied := io.TeeReader(in, f)
	plain, err := packed.DecompressStream(copied)
	if err != nil {
		return Layer{}, err
	}
	h := sha256.New()
	_, err = io.Copy(h, plain)
	if err = errors.Join(err, plain.Close()); err == nil {
		_, err = io.Copy(io.Discard, copied) // what a compressor has left behind its end
	}
	if err != nil {
		return Layer{}, err
	}
	return s.putLayerAs(digest.NewDigest(digest.SHA256, h), parent, func() (io.ReadCloser, error) {
		_, err := f.Seek(0, io.SeekStart)
		return io.NopCloser(f), err
	})
}

// PutLayerAs is PutLayer for an archive whose digest is known already: the layer gets the id that pulling and loading give it, and one that is
// there is taken as it is. open begins to read the archive, perhaps more than once.
func (s *Store) PutLayerAs(diffID, parent string, open func() (io.ReadCloser, error)) (Layer, error) {
	d, err := digest.Parse(diffID)
	var l Layer
	if err == nil {
		l, err = s.putLayerAs(d, parent, open)
	}
	if err != nil {
		return Layer{}, unpackError(err)
	}
	return l, nil
}

func (s *Store) putLayerAs(d digest.Digest, parent string, open func() (io.ReadCloser, error)) (Layer, error) {
	id, diffID := layerID(d, parent), d.String()
	if l, err := s.lib.Layer(id); err == nil && l.UncompressedDigest == d {
		return Layer{ID: id, DiffID: diffID, Size: l.UncompressedSize}, nil
	}
	var l *storage.Layer
	err := Again(func() error {
		archive, err := open()
		if err == nil {
			l, _, err = s.lib.PutLayer(id, parent, nil, "", false, nil, archive)
			_ = archive.Close() // what remains is not wanted
		}
		return err
	})
	if errors.Is(err, storage.ErrDuplicateID) { // another build was faster
		if l, err = s.lib.Layer(id); err == nil && l.UncompressedDigest == d {
			return Layer{ID: id, DiffID: diffID, Size: l.UncompressedSize}, nil
		}
	}
	if err != nil {
		return Layer{}, err
	}
	if l.UncompressedDigest != d {
		return Layer{}, errors.Join(fmt.Errorf("its digest is %s, not %s", l.UncompressedDigest, d), s.lib.DeleteLayer(id))
	}
	return Layer{ID: l.ID, DiffID: diffID, Size: l.UncompressedSize}, nil
}

// layerID is the rule of go.podman.io/image (storage_dest.go, layerID).
func layerID(diffID digest.Digest, parent string) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return hexSum([]byte(parent + "+" + diffID.Encoded()))
}

// HasLayer finds a layer by its digest and what it lies on.
func (s *Store) HasLayer(diffID, parent string) (Layer, bool) {
	d := digest.Digest(diffID)
	if d.Validate() != nil {
		return Layer{}, false
	}
	l, err := s.lib.Layer(layerID(d, parent))
	if err != nil || l.UncompressedDigest != d {
		return Layer{}, false
	}
	return Layer{ID: l.ID, DiffID: diffID, Size: l.UncompressedSize}, true
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
	return s.PutAnnotated(layers, config, nil, names...)
}

// PutAnnotated is PutImage with annotations in the manifest, which is OCI's then: Docker's has none. An image that is there gets them too, or loses those of
// an earlier time.
func (s *Store) PutAnnotated(layers []Layer, config []byte, annotations map[string]string, names ...string) (string, error) {
	id := hexSum(config)
	full, err := fullNames(names)
	if err != nil {
		return "", err
	}
	manifest, err := plainManifest(layers, config, annotations)
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
	if errors.Is(err, storage.ErrDuplicateID) {
		err = s.annotate(id, manifest, len(annotations) > 0)
	}
	if err == nil && len(full) > 0 {
		err = s.lib.AddNames(id, full)
	}
	if err != nil {
		return "", explain("write image", short(id), err)
	}
	return id, nil
}

// annotate gives an image that is there another manifest when annotations are wanted, or are there and not wanted any more.
func (s *Store) annotate(id string, manifest []byte, wanted bool) error {
	old, err := s.lib.ImageBigData(id, storage.ImageDigestBigDataKey)
	if err != nil {
		return err
	}
	var have struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(old, &have); err != nil {
		return err
	}
	if bytes.Equal(old, manifest) || !wanted && len(have.Annotations) == 0 {
		return nil
	}
	sum := func(data []byte) (digest.Digest, error) { return digest.FromBytes(data), nil }
	key := storage.ImageDigestBigDataKey + "-" + digest.FromBytes(manifest).String()
	return errors.Join(s.lib.SetImageBigData(id, key, manifest, sum), s.lib.SetImageBigData(id, storage.ImageDigestBigDataKey, manifest, sum))
}

// plainManifest is the manifest of layers kept as plain archives: Docker's (schema 2), or OCI's with annotations.
func plainManifest(layers []Layer, config []byte, annotations map[string]string) ([]byte, error) {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Size      int64  `json:"size"`
		Digest    string `json:"digest"`
	}
	kinds := [3]string{
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar",
	}
	m := map[string]any{"schemaVersion": 2}
	if len(annotations) > 0 {
		kinds = [3]string{"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"}
		m["annotations"] = annotations
	}
	list := []descriptor{}
	for _, l := range layers {
		list = append(list, descriptor{kinds[2], l.Size, l.DiffID})
	}
	m["mediaType"], m["layers"] = kinds[0], list
	m["config"] = descriptor{kinds[1], int64(len(config)), "sha256:" + hexSum(config)}
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(m)
	return bytes.TrimSpace(b.Bytes()), err
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// LayerTar writes a layer's changes to w as a plain tar archive, as it came.
func (s *Store) LayerTar(w io.Writer, id string) error {
	plain := packed.Uncompressed
	r, err := s.lib.Diff("", id, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return fmt.Errorf("cannot read layer %s: %w", id, err)
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}
