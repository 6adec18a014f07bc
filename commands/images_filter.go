package commands

import (
	"fmt"
	"slices"

	"github.com/skiff-containers/skiff/storage/image"
)

// imageFilter makes the predicate of images and of image prune.
func imageFilter(x *image.Index, list []*image.Image, f filters) (func(img *image.Image, names []string) bool, error) {
	dangling, err := f.truth("dangling", false)
	if err != nil {
		return nil, err
	}
	at := func(key string) (int, error) {
		v := f[key]
		if len(v) == 0 {
			return -1, nil
		}
		img, err := x.Find(v[len(v)-1])
		if err != nil {
			return -1, err
		}
		return slices.IndexFunc(list, func(i *image.Image) bool { return i.ID == img.ID }), nil
	}
	before, err := at("before")
	if err != nil {
		return nil, err
	}
	since, err := at("since")
	if err != nil {
		return nil, err
	}
	until, err := f.until()
	if err != nil {
		return nil, err
	}
	for _, p := range f["reference"] {
		if p == "" {
			return nil, fmt.Errorf("invalid filter 'reference=': it needs a pattern")
		}
	}
	place := map[string]int{}
	for i, img := range list {
		place[img.ID] = i
	}
	return func(img *image.Image, names []string) bool {
		i := place[img.ID] // newest first
		return (len(f["dangling"]) == 0 || dangling == (len(names) == 0)) &&
			(before < 0 || i > before) && (since < 0 || i < since) &&
			made(img.Created, until) &&
			f.labels(img.Config.Config.Labels) &&
			(len(f["reference"]) == 0 || slices.ContainsFunc(names, func(n string) bool { return matchesReference(n, f["reference"]) }))
	}, nil
}
