//go:build !front

package commands

import (
	"testing"

	"github.com/skiff-containers/skiff/storage/image"
)

func TestImageSpace(t *testing.T) {
	base := &image.Image{ID: "base", Layers: []string{"/b"}, Sizes: []int64{100}, Size: 100}
	top := &image.Image{ID: "top", Layers: []string{"/t", "/b"}, Sizes: []int64{20, 100}, Size: 120}
	other := &image.Image{ID: "other", Layers: []string{"/o"}, Sizes: []int64{7}, Size: 7, ReadOnly: true}
	for _, c := range []struct {
		name   string
		images []*image.Image
		users  map[string]int
		want   space
	}{
		{"nothing", nil, nil, space{}},
		{"a shared layer counts once", []*image.Image{base, top}, nil, space{2, 0, 120, 120}},
		{"a container of the upper image keeps both layers", []*image.Image{base, top}, map[string]int{"top": 2}, space{2, 1, 120, 0}},
		{"a container of the lower image keeps one", []*image.Image{base, top}, map[string]int{"base": 1}, space{2, 1, 120, 20}},
		{"another store is not freed", []*image.Image{base, other}, nil, space{2, 0, 107, 100}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := imageSpace(c.images, c.users); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if got := sharedSizes([]*image.Image{base, top, other}); got["base"] != 100 || got["top"] != 100 || got["other"] != 0 {
		t.Errorf("shared sizes %v, want 100 of base and of top and none of other", got)
	}
}
