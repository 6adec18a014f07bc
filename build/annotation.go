package build

// This file is annotations: what OCI manifests and indexes say of an image beside its configuration.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
)

// The places that an annotation can be at.
const (
	OnManifest           = "manifest"
	OnManifestDescriptor = "manifest-descriptor" // in the index
	OnIndex              = "index"
	OnIndexDescriptor    = "index-descriptor" // in an OCI layout's index.json
)

// Annotation is one of them.
type Annotation struct {
	On         string
	Platform   string // of the manifest, normalised; "" means all
	Key, Value string
}

// ParseAnnotation reads [PLACE[[PLATFORM]][,PLACE...]:]KEY=VALUE. Without a place it is the manifest's.
func ParseAnnotation(text string) ([]Annotation, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return nil, fmt.Errorf("%q is not KEY=VALUE", text)
	}
	words := []string{OnManifest}
	if before, after, ok := strings.Cut(key, ":"); ok && !strings.ContainsAny(before, "./") || ok && strings.Contains(before, "[") {
		words, key = strings.Split(before, ","), after
	}
	if key == "" {
		return nil, fmt.Errorf("%q has no key", text)
	}
	var list []Annotation
	for _, w := range words {
		a := Annotation{On: w, Key: key, Value: value}
		if on, rest, ok := strings.Cut(w, "["); ok {
			name, end := strings.CutSuffix(rest, "]")
			p, err := platforms.Parse(name)
			if err != nil || !end {
				return nil, fmt.Errorf("%q is no place with a platform, such as manifest[linux/amd64]", w)
			}
			a.On, a.Platform = on, platforms.Format(platforms.Normalize(p))
		}
		if !slices.Contains([]string{OnManifest, OnManifestDescriptor, OnIndex, OnIndexDescriptor}, a.On) {
			return nil, fmt.Errorf("%q is no place of an annotation; there are manifest, manifest-descriptor, index and index-descriptor", a.On)
		}
		if a.Platform != "" && strings.HasPrefix(a.On, OnIndex) {
			return nil, fmt.Errorf("an index is of all platforms: %q", w)
		}
		list = append(list, a)
	}
	return list, nil
}

// annotationsFor chooses those of one place; nil is none.
func annotationsFor(list []Annotation, on, platform string) map[string]string {
	var m map[string]string
	for _, a := range list {
		if a.On != on || a.Platform != "" && a.Platform != platform {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		m[a.Key] = a.Value
	}
	return m
}
