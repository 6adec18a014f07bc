package commands

import (
	"slices"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/storage/image"
)

func TestStepSizes(t *testing.T) {
	layer, empty := image.History{}, image.History{EmptyLayer: true}
	for _, c := range []struct {
		name  string
		steps []image.History
		sizes []int64 // top first
		want  []int64 // oldest first
	}{
		{"none", nil, nil, []int64{}},
		{"one", []image.History{layer}, []int64{7}, []int64{7}},
		{"empty steps between", []image.History{layer, empty, layer, empty}, []int64{2, 7}, []int64{7, 0, 2, 0}},
		{"only empty steps", []image.History{empty}, nil, []int64{0}},
		{"more steps than layers", []image.History{layer, layer}, []int64{7}, nil},
		{"more layers than steps", []image.History{layer}, []int64{2, 7}, nil},
		{"an index without sizes", []image.History{layer}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := &image.Image{ID: "0123456789abcdef", Sizes: c.sizes}
			img.Config.History = c.steps
			got := stepSizes(img)
			if !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			for _, r := range historyRows(img, time.Time{}, true, false) {
				if (r.Size == "N/A") != (c.want == nil) {
					t.Errorf("size %q of a step, want N/A only when it is not known", r.Size)
				}
			}
		})
	}
}
