package build

// This file takes the frontend's result: one image, or one for each platform.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway2 "github.com/moby/buildkit/frontend/gateway/client"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-containers/skiff/storage/image"
)

// finish evaluates the result: until now the frontend may only have asked for what it needs to read.
func finish(ctx context.Context, res *gateway2.Result) (*Built, error) {
	b := &Built{Text: res.Metadata}
	if res.Ref == nil && len(res.Refs) == 0 && res.Metadata[exptypes.ExporterImageConfigKey] == nil {
		return b, nil // an answer in words
	}
	list, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return nil, fmt.Errorf("cannot read what the frontend made: %w", err)
	}
	b.Images = make([]Image, len(list.Platforms))
	all, ctx := errgroup.WithContext(ctx)
	for i := range list.Platforms {
		p := &list.Platforms[i]
		img := &b.Images[i]
		img.Platform = platforms.Format(p.Platform)
		img.Config = exptypes.ParseKey(res.Metadata, exptypes.ExporterImageConfigKey, p)
		if img.Epoch, err = parseEpoch(exptypes.ParseKey(res.Metadata, "source.date.epoch", p)); err != nil {
			return nil, err
		}
		var base struct {
			RootFS image.RootFS `json:"rootfs"`
		}
		if text := exptypes.ParseKey(res.Metadata, exptypes.ExporterImageBaseConfigKey, p); len(text) > 0 {
			if err := json.Unmarshal(text, &base); err != nil {
				return nil, fmt.Errorf("cannot read the configuration of the base image: %w", err)
			}
		}
		img.base = len(base.RootFS.DiffIDs)
		made := res.Ref
		if len(res.Refs) > 0 {
			made = res.Refs[p.ID]
		}
		if made == nil {
			continue // an image without layers
		}
		r, ok := made.(*reference)
		if !ok {
			return nil, fmt.Errorf("cannot use a result of type %T", made)
		}
		all.Go(func() error {
			out, err := r.result(ctx)
			if err == nil {
				img.Tree, img.result, img.definition = out.Tree, r.made, r.def
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	for i := range b.Images {
		if b.Images[i].Config == nil {
			return nil, errors.New("cannot use what the frontend made: an image has no configuration")
		}
	}
	return b, nil
}

// parseEpoch reads SOURCE_DATE_EPOCH; nil when there is none.
func parseEpoch(text []byte) (*time.Time, error) {
	if len(text) == 0 {
		return nil, nil //nolint:nilnil // no time was asked for
	}
	var seconds int64
	if _, err := fmt.Sscan(string(text), &seconds); err != nil {
		return nil, fmt.Errorf("cannot read SOURCE_DATE_EPOCH %q: %w", text, err)
	}
	t := time.Unix(seconds, 0).UTC()
	return &t, nil
}
