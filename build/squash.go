package build

// This file makes one layer of all that a build added to its base (--squash).

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage/image"
)

// squash returns the image with one layer over its base. The layer's directory is made of links in the scratch directory and lives as long as the build.
func (b *Built) squash(ctx context.Context, img *Image) (*Image, error) {
	first := min(img.base, len(img.Tree))
	own := img.Tree[first:]
	if len(own) < 2 {
		return img, nil
	}
	dir, err := os.MkdirTemp(b.images.Scratch(), "squash-")
	if err != nil {
		return nil, fmt.Errorf("cannot squash the image: %w", err)
	}
	into, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot squash the image: %w", err)
	}
	defer into.Close() // nothing is buffered
	var latest time.Time
	for _, l := range own {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		upper, err := os.Open(l.Dir)
		if err == nil {
			err = files.Merge(upper, into)
			_ = upper.Close() // only read from
		}
		if err != nil {
			return nil, fmt.Errorf("cannot squash the image: %w", err)
		}
		if step, err := b.store.Step(l.ID); err == nil && step.Created.After(latest) {
			latest = step.Created.UTC()
		}
		if l.Made.After(latest) {
			latest = l.Made.UTC()
		}
	}
	if err := forget(into, img.Tree[:first]); err != nil {
		return nil, err
	}
	squashed := *img
	squashed.Tree = append(append(snap.Tree{}, img.Tree[:first]...), snap.Layer{Own: true, Dir: filepath.Clean(dir), Made: latest})
	squashed.Config, err = squashedHistory(img.Config, first, len(own))
	return &squashed, err
}

// forget takes out of a squashed layer what hides nothing of its base.
func forget(squashed *os.File, base snap.Tree) error {
	var list []*os.File
	for _, l := range base {
		dir, err := os.Open(l.Dir)
		if err != nil {
			return fmt.Errorf("cannot squash the image: %w", err)
		}
		defer dir.Close() // only read from
		list = append(list, dir)
	}
	return files.Forget(squashed, list)
}

// squashedHistory makes the lines of the build say that they have no layer, and adds one that has.
func squashedHistory(config []byte, base, own int) ([]byte, error) {
	all, history, err := readConfig(config)
	if err != nil {
		return nil, err
	}
	layers := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		layers++
		history[i].EmptyLayer = layers > base
	}
	history = append(history, image.History{Comment: fmt.Sprintf("squashed %d layers", own)})
	if all["history"], err = json.Marshal(history); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}
