package build

// This file makes an image of a built tree: its layers in the store, its configuration complete.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
)

// Image is what was built for one platform, before it is written anywhere.
type Image struct {
	Platform string // as OS/ARCHITECTURE[/VARIANT]; "" is this machine's
	Tree     snap.Tree
	Config   []byte     // of the image, complete but for the layers
	Epoch    *time.Time // SOURCE_DATE_EPOCH
	base     int        // how many of the tree's layers are the base image's

	result     solver.CachedResult // nil of an image without layers
	definition *pb.Definition      // likewise
}

// only is the image of a build for one platform.
func (b *Built) only(what string) (*Image, error) {
	if len(b.Images) != 1 {
		return nil, fmt.Errorf("cannot write images of %d platforms as one %s", len(b.Images), what)
	}
	return &b.Images[0], nil
}

// Store writes the image into the store under names and returns its id.
func (b *Built) Store(ctx context.Context, annotations []Annotation, names ...string) (string, error) {
	img, err := b.only("image of the store")
	if err != nil {
		return "", err
	}
	if b.options.Squash {
		if img, err = b.squash(ctx, img); err != nil {
			return "", err
		}
	}
	layers, err := b.layers(img)
	if err != nil {
		return "", err
	}
	var diffs []string
	for _, l := range layers {
		diffs = append(diffs, l.DiffID)
	}
	config, err := complete(img.Config, diffs, b.times(img), img.Epoch)
	if err != nil {
		return "", err
	}
	id, err := b.images.PutAnnotated(layers, config, annotationsFor(annotations, OnManifest, img.Platform), names...)
	if err != nil {
		return "", err
	}
	return id, b.images.Reconcile()
}

// Manifest describes the manifest that an image of the store has, as a registry would name it.
func Manifest(images *storage.Store, id string) (ocispecs.Descriptor, error) {
	raw, err := images.Library().ImageBigData(id, "manifest")
	if err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("cannot read the image's manifest: %w", err)
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("cannot read the image's manifest: %w", err)
	}
	return ocispecs.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, nil
}

// layerFile says, beside a step, which layer of the store it became.
const layerFile = "layer.json"

// layers makes each step a layer of the store, on top of the one before; those that are there already are taken.
func (b *Built) layers(img *Image) ([]storage.Layer, error) {
	var list []storage.Layer
	parent := ""
	for _, l := range img.Tree {
		var one storage.Layer
		var err error
		if l.Own {
			one, err = b.step(img, l, parent)
		} else {
			one, err = b.existing(l.ID)
		}
		if err != nil {
			return nil, err
		}
		list, parent = append(list, one), one.ID
	}
	return list, nil
}

// existing describes a layer of the store.
func (b *Built) existing(id string) (storage.Layer, error) {
	l, err := b.images.Library().Layer(id)
	if err != nil {
		return storage.Layer{}, fmt.Errorf("cannot use a layer of the base image: %w", err)
	}
	return storage.Layer{ID: l.ID, DiffID: l.UncompressedDigest.String(), Size: l.UncompressedSize}, nil
}

// memo is layerFile.
type memo struct {
	Layer  storage.Layer `json:"layer"`
	Parent string        `json:"parent"`
}

func (b *Built) step(img *Image, l snap.Layer, parent string) (storage.Layer, error) {
	path := filepath.Join(b.store.Dir, "steps", l.ID, layerFile)
	rewrite := b.options.Rewrite && img.Epoch != nil
	var known memo
	if data, err := os.ReadFile(path); err == nil && !rewrite && json.Unmarshal(data, &known) == nil && known.Parent == parent {
		if have, err := b.existing(known.Layer.ID); err == nil {
			return have, nil
		}
	}
	o := files.StageOptions{Own: true}
	if rewrite {
		o.Latest = *img.Epoch
	}
	made, err := pull.PutDirectory(b.images, parent, l.Dir, o)
	if err != nil {
		return storage.Layer{}, err
	}
	if rewrite || l.ID == "" { // a squashed layer is of this build alone
		return made, nil
	}
	data, err := json.Marshal(memo{made, parent})
	if err != nil {
		return storage.Layer{}, err
	}
	return made, disk.WriteFile(path, data, 0o600, disk.Volatile)
}

// times are when the steps were made, by layer; layers of a base image have none here, since their history says it.
func (b *Built) times(img *Image) []time.Time {
	list := make([]time.Time, len(img.Tree))
	for i, l := range img.Tree {
		if !l.Made.IsZero() {
			list[i] = l.Made
		} else if step, err := b.store.Step(l.ID); l.Own && err == nil {
			list[i] = step.Created.UTC()
		}
	}
	return list
}

// readConfig reads a configuration's fields, and of them the history. An empty one has none.
func readConfig(config []byte) (all map[string]json.RawMessage, history []image.History, err error) {
	all = map[string]json.RawMessage{}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &all); err != nil {
			return nil, nil, fmt.Errorf("cannot read the image's configuration: %w", err)
		}
	}
	if raw := all["history"]; raw != nil {
		if err := json.Unmarshal(raw, &history); err != nil {
			return nil, nil, fmt.Errorf("cannot read the image's history: %w", err)
		}
	}
	return all, history, nil
}

// complete gives a configuration its layers, and its history the times that are missing: those of the steps, so that an image built again
// from the cache is the same image.
func complete(config []byte, diffs []string, times []time.Time, epoch *time.Time) ([]byte, error) {
	all, history, err := readConfig(config)
	if err != nil {
		return nil, err
	}
	rootfs := image.RootFS{Type: "layers", DiffIDs: append([]string{}, diffs...)}
	history, created := balance(history, times, epoch)
	var errs []error
	set := func(key string, v any) {
		data, err := json.Marshal(v)
		errs = append(errs, err)
		all[key] = data
	}
	set("rootfs", rootfs)
	set("history", history)
	set("created", created)
	data, err := json.Marshal(all)
	return data, errors.Join(append(errs, err)...)
}

// balance makes a history say as many layers as there are, gives each line a time, and returns the latest of them.
func balance(history []image.History, times []time.Time, epoch *time.Time) ([]image.History, time.Time) {
	n := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if n == len(times) {
			history[i].EmptyLayer = true
		} else {
			n++
		}
	}
	for ; n < len(times); n++ {
		history = append(history, image.History{Comment: "skiff"})
	}
	latest := time.Unix(0, 0).UTC()
	n = 0
	for i := range history {
		h := &history[i]
		var at time.Time
		if !h.EmptyLayer {
			at = times[n]
			n++
		}
		if h.Created == nil {
			if at.IsZero() {
				at = latest
			}
			if epoch != nil {
				at = *epoch
			}
			h.Created = &at
		}
		if h.Created.After(latest) {
			latest = *h.Created
		}
	}
	if epoch != nil {
		latest = *epoch
	}
	return history, latest
}
