package ops

// This file is images that lie in OCI layouts of the user's (--build-context NAME=oci-layout://DIR): they are read into the store when a build asks for them.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage/image"
)

// layout is one that a build was given.
type layout struct {
	source string // as package pull reads it: oci:DIR:@INDEX
	images map[string]*image.Image
}

// AddLayout makes an image of a layout (DIR[:TAG][@DIGEST]) a named context and returns what the frontend is to call it.
func (e *Env) AddLayout(name, where string) (string, error) {
	dir, tag, sum := splitLayout(where)
	index, desc, err := FindInLayout(dir, tag, sum)
	if err != nil {
		return "", fmt.Errorf("cannot use the OCI layout %s as context %q: %w", where, name, err)
	}
	if e.layouts == nil {
		e.layouts = map[string]*layout{}
	}
	store := "layout/" + strconv.Itoa(len(e.layouts))
	e.layouts[store] = &layout{source: "oci:" + dir + ":@" + strconv.Itoa(index), images: map[string]*image.Image{}}
	return "oci-layout://" + store + "@" + desc.Digest.String(), nil
}

// splitLayout takes DIR[:TAG][@DIGEST] apart. A directory that has such a name is meant as it is.
func splitLayout(where string) (dir, tag, sum string) {
	if st, err := os.Stat(where); err == nil && st.IsDir() {
		return where, "", ""
	}
	dir = where
	if before, after, ok := strings.Cut(where, "@"); ok && digest.Digest(after).Validate() == nil {
		dir, sum = before, after
	}
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, '/') {
		dir, tag = dir[:i], dir[i+1:]
	}
	return dir, tag, sum
}

// FindInLayout chooses among what a layout's index lists: by digest, by tag, or the only one or "latest".
func FindInLayout(dir, tag, sum string) (int, *ocispecs.Descriptor, error) {
	data, err := os.ReadFile(filepath.Join(dir, ocispecs.ImageIndexFile))
	if err != nil {
		return 0, nil, err
	}
	var index ocispecs.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return 0, nil, fmt.Errorf("its %s is damaged: %w", ocispecs.ImageIndexFile, err)
	}
	wanted := tag
	if wanted == "" {
		wanted = "latest"
	}
	var names []string
	for i := range index.Manifests {
		d := &index.Manifests[i]
		name := d.Annotations[ocispecs.AnnotationRefName]
		if err := d.Digest.Validate(); err != nil {
			return 0, nil, fmt.Errorf("its %s is damaged: %w", ocispecs.ImageIndexFile, err)
		}
		switch {
		case sum != "":
			if d.Digest.String() == sum {
				return i, d, nil
			}
		case name == wanted || strings.HasSuffix(name, ":"+wanted), tag == "" && len(index.Manifests) == 1:
			return i, d, nil
		}
		names = append(names, strings.TrimSpace(name+" "+d.Digest.String()))
	}
	switch {
	case len(names) == 0:
		return 0, nil, errors.New("there is no image in it")
	case sum != "":
		wanted = sum
	}
	return 0, nil, fmt.Errorf("there is no image %s in it; there are: %s", wanted, strings.Join(names, ", "))
}

// Layout reads the image of a layout for a platform into the store, once.
func (e *Env) Layout(ctx context.Context, store string, p *pb.Platform) (*image.Image, error) {
	e.pulling.Lock()
	defer e.pulling.Unlock()
	l := e.layouts[store]
	if l == nil {
		return nil, fmt.Errorf("cannot read the OCI layout %q: the build was not given it", store)
	}
	platform := platformOf(p)
	if img := l.images[platform.String()]; img != nil {
		return img, nil
	}
	done, err := pull.Pull(ctx, e.Images, l.source, pull.Options{Platform: platform})
	if err != nil {
		return nil, err
	}
	if err := e.Images.Reconcile(); err != nil {
		return nil, err
	}
	img, err := e.Images.Index.Load(done[0].ID)
	if err != nil {
		return nil, err
	}
	l.images[platform.String()] = img
	return img, nil
}

// platformOf is a definition's platform as package pull has it.
func platformOf(p *pb.Platform) pull.Platform {
	if p == nil {
		return pull.Platform{}
	}
	return pull.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}
