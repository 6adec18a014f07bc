package build

// This file makes an image of a built tree: its layers in the store, its configuration complete.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
)

// Store writes the image into the store under names and returns its id.
func (b *Built) Store(names ...string) (string, error) {
	layers, err := b.layers()
	if err != nil {
		return "", err
	}
	config, err := complete(b.Config, layers, b.Epoch)
	if err != nil {
		return "", err
	}
	id, err := b.images.PutImage(layers, config, names...)
	if err != nil {
		return "", err
	}
	return id, b.images.Reconcile()
}

// layerFile says, beside a step, which layer of the store it became.
const layerFile = "layer.json"

// layers makes each step a layer of the store, on top of the one before; those that are there already are taken.
func (b *Built) layers() ([]storage.Layer, error) {
	var list []storage.Layer
	parent := ""
	for _, l := range b.Tree {
		var one storage.Layer
		var err error
		if l.Own {
			one, err = b.step(l, parent)
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

func (b *Built) step(l snap.Layer, parent string) (storage.Layer, error) {
	path := filepath.Join(b.store.Dir, "steps", l.ID, layerFile)
	rewrite := b.options.Rewrite && b.Epoch != nil
	var known memo
	if data, err := os.ReadFile(path); err == nil && !rewrite && json.Unmarshal(data, &known) == nil && known.Parent == parent {
		if have, err := b.existing(known.Layer.ID); err == nil {
			return have, nil
		}
	}
	root, err := os.Open(l.Dir)
	if err != nil {
		return storage.Layer{}, fmt.Errorf("cannot read a step: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read from
	o := files.TarOptions{Changes: true}
	if rewrite {
		o.Latest = *b.Epoch
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(files.Tar(w, root, o)) }()
	made, err := b.images.PutLayer(parent, r)
	_ = r.Close() // what remains is not wanted
	if err != nil {
		return storage.Layer{}, err
	}
	if rewrite {
		return made, nil
	}
	data, err := json.Marshal(memo{made, parent})
	if err != nil {
		return storage.Layer{}, err
	}
	return made, disk.WriteFile(path, data, 0o600, disk.Volatile)
}

// complete gives a configuration its layers and its history the times that are missing.
func complete(config []byte, layers []storage.Layer, epoch *time.Time) ([]byte, error) {
	all := map[string]json.RawMessage{}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &all); err != nil {
			return nil, fmt.Errorf("cannot read the image's configuration: %w", err)
		}
	}
	now := time.Now().UTC()
	if epoch != nil {
		now = *epoch
	}
	var history []image.History
	if raw := all["history"]; raw != nil {
		if err := json.Unmarshal(raw, &history); err != nil {
			return nil, fmt.Errorf("cannot read the image's history: %w", err)
		}
	}
	rootfs := image.RootFS{Type: "layers", DiffIDs: []string{}}
	for _, l := range layers {
		rootfs.DiffIDs = append(rootfs.DiffIDs, l.DiffID)
	}
	var errs []error
	set := func(key string, v any) {
		data, err := json.Marshal(v)
		errs = append(errs, err)
		all[key] = data
	}
	set("rootfs", rootfs)
	set("history", balance(history, len(layers), now))
	set("created", now)
	data, err := json.Marshal(all)
	return data, errors.Join(append(errs, err)...)
}

// balance makes a history say as many layers as there are, and gives each line a time.
func balance(history []image.History, layers int, now time.Time) []image.History {
	n := 0
	for i := range history {
		if !history[i].EmptyLayer {
			if n == layers {
				history[i].EmptyLayer = true
			} else {
				n++
			}
		}
		if history[i].Created == nil {
			history[i].Created = &now
		}
	}
	for ; n < layers; n++ {
		history = append(history, image.History{Created: &now, Comment: "skiff"})
	}
	return history
}
