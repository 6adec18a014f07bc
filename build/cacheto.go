package build

// This file is --cache-to: what was built, for other machines.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage/disk"
)

// CacheTo is one --cache-to. None of Ref, Dir and Inline is nothing.
type CacheTo struct {
	Ref    string // of a registry
	Dir    string // an OCI layout, which may be there already
	Tag    string // in the layout; "" is latest
	Inline bool   // in the configuration of the image
	Max    bool   // all steps, not only those whose layers the image has
	// IgnoreError lets a build succeed whose cache could not be exported.
	IgnoreError bool
}

// remotes makes layers of results, for an export of the cache.
type remotes struct {
	blobs *blobs
}

// of is a result's layers as blobs, which are written when make says so and otherwise must be there already.
func (r *remotes) of(res solver.Result, write bool) (*solver.Remote, error) {
	ref, ok := res.Sys().(*ops.Ref)
	if !ok || ref.Local != nil || len(ref.Tree) == 0 {
		return nil, nil //nolint:nilnil // a result that is no layers
	}
	return r.tree(ref.Tree, write)
}

func (r *remotes) tree(tree snap.Tree, write bool) (*solver.Remote, error) {
	remote := &solver.Remote{}
	for _, l := range tree {
		if !write && !r.blobs.has(l) {
			return nil, nil //nolint:nilnil // it has none yet
		}
		d, err := r.blobs.layer(&Image{}, l)
		if err != nil {
			return nil, err
		}
		made := l.Made
		if step, err := r.blobs.built.store.Step(l.ID); l.Own && err == nil {
			made = step.Created
		}
		d.Annotations = map[string]string{ops.UncompressedKey: d.Annotations[ops.UncompressedKey]}
		if !made.IsZero() {
			d.Annotations[ops.CreatedKey] = made.UTC().Format(time.RFC3339Nano)
		}
		remote.Descriptors = append(remote.Descriptors, d)
	}
	return remote, nil
}

// collect exports the keys of what the images were made by.
func (b *Built) collect(ctx context.Context, images []*Image, all bool) (*chains, error) {
	c := newChains()
	o := solver.CacheExportOpt{Mode: solver.CacheExportModeMin, ResolveRemotes: func(_ context.Context, res solver.Result) ([]*solver.Remote, error) {
		r, err := b.remotes.of(res, true)
		if err != nil || r == nil {
			return nil, err
		}
		return []*solver.Remote{r}, nil
	}}
	if all {
		o.Mode = solver.CacheExportModeMax
	}
	for _, img := range images {
		if img.result == nil {
			continue
		}
		for _, k := range img.result.CacheKeys() {
			if _, err := k.Exporter.ExportTo(ctx, c, o); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// every is all images, by reference.
func (b *Built) every() []*Image {
	var list []*Image
	for i := range b.Images {
		list = append(list, &b.Images[i])
	}
	return list
}

// inline puts the cache of each image into its configuration: which keys its layers are found by.
func (b *Built) inline(ctx context.Context) error {
	if !slices.ContainsFunc(b.options.CacheTo, func(c CacheTo) bool { return c.Inline }) {
		return nil
	}
	for _, img := range b.every() {
		if len(img.Tree) == 0 {
			continue
		}
		own, err := b.remotes.tree(img.Tree, true)
		if err != nil {
			return fmt.Errorf("cannot export the cache into the image: %w", err)
		}
		c, err := b.collect(ctx, []*Image{img}, false)
		if err != nil {
			return fmt.Errorf("cannot export the cache into the image: %w", err)
		}
		var table layerTable
		table.add(own.Descriptors) // so that the number of a layer is its place in the image
		config := c.marshal(&table, func(r *solver.Remote) bool {
			return len(r.Descriptors) <= len(own.Descriptors) && slices.EqualFunc(r.Descriptors, own.Descriptors[:len(r.Descriptors)], func(a, b ocispecs.Descriptor) bool {
				return a.Digest == b.Digest
			})
		})
		records, err := json.Marshal(config.Records)
		if err != nil {
			return err
		}
		if img.Config, err = withField(img.Config, "moby.buildkit.cache.v0", records); err != nil {
			return err
		}
	}
	return nil
}

// withField sets one field of a JSON object.
func withField(object []byte, name string, value any) ([]byte, error) {
	all := map[string]json.RawMessage{}
	if len(object) > 0 {
		if err := json.Unmarshal(object, &all); err != nil {
			return nil, fmt.Errorf("cannot read the image's configuration: %w", err)
		}
	}
	var err error
	if all[name], err = json.Marshal(value); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// exportCaches writes the caches that are no part of an image.
func (b *Built) exportCaches(ctx context.Context) error {
	var errs []error
	for _, to := range b.options.CacheTo {
		if to.Inline || len(b.Images) == 0 {
			continue
		}
		if err := b.exportCache(ctx, to); err != nil {
			title := to.Dir + to.Ref
			if to.IgnoreError {
				b.say(fmt.Sprintf("the cache is not exported to %s: %v", title, err))
				continue
			}
			errs = append(errs, fmt.Errorf("cannot export the cache to %s: %w", title, err))
		}
	}
	return errors.Join(errs...)
}

func (b *Built) exportCache(ctx context.Context, to CacheTo) error {
	c, err := b.collect(ctx, b.every(), to.Max)
	if err != nil {
		return err
	}
	var table layerTable
	config := c.marshal(&table, nil)
	if len(config.Layers) == 0 {
		b.say("there is no step in this build that a cache could have")
		return nil
	}
	s := b.remotes.blobs
	m := ocispecs.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, Layers: table.blobs}
	if m.Config, err = s.document(config, cachetypes.CacheConfigMediaTypeV0); err != nil {
		return err
	}
	top, err := s.document(m, ocispecs.MediaTypeImageManifest)
	if err != nil {
		return err
	}
	if to.Ref != "" {
		if err := s.finish(top, nil); err != nil {
			return err
		}
		_, err = pull.PushLayout(ctx, b.images, s.dir, to.Ref, pull.PushOptions{Access: b.options.Access})
		return err
	}
	for _, d := range append([]ocispecs.Descriptor{top, m.Config}, m.Layers...) {
		if err := copyBlob(s.dir, to.Dir, d); err != nil {
			return err
		}
	}
	return addToLayout(to.Dir, to.Tag, top)
}

// copyBlob copies a blob that is not there.
func copyBlob(from, to string, d ocispecs.Descriptor) error {
	name := filepath.Join(ocispecs.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
	target := filepath.Join(to, name)
	if st, err := os.Stat(target); err == nil && st.Size() == d.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(from, name))
	if err != nil {
		return err
	}
	defer in.Close() // only read from
	out, err := os.CreateTemp(filepath.Dir(target), "blob-")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o644), out.Close()); err == nil {
		err = os.Rename(out.Name(), target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

// addToLayout makes a tag of an OCI layout mean a manifest. Other tags stay.
func addToLayout(dir, tag string, top ocispecs.Descriptor) error {
	if tag == "" {
		tag = "latest"
	}
	lock, err := disk.WaitLock(filepath.Join(dir, ocispecs.ImageIndexFile+".lock"), disk.Exclusive, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	file := filepath.Join(dir, ocispecs.ImageIndexFile)
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("what is in it is no OCI layout: %w", err)
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispecs.Descriptor) bool { return d.Annotations[ocispecs.AnnotationRefName] == tag })
	top.Annotations = map[string]string{ocispecs.AnnotationRefName: tag}
	index.Manifests = append(index.Manifests, top)
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	return errors.Join(
		disk.WriteFile(file, data, 0o644, disk.Volatile),
		disk.WriteFile(filepath.Join(dir, ocispecs.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+ocispecs.ImageLayoutVersion+`"}`), 0o644, disk.Volatile),
	)
}
