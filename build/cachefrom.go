package build

// This file is --cache-from: caches that other builds exported, to a directory, to a registry, or into the configuration of an image.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/util/compression"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage/image"
)

// CacheFrom is one --cache-from.
type CacheFrom struct {
	Ref    string // of a registry
	Dir    string // of an OCI layout; either this or Ref
	Tag    string // in the layout; "" is latest
	Digest string // in the layout, instead of Tag
}

// Title is what people know it by.
func (c CacheFrom) Title() string {
	if c.Ref != "" {
		return c.Ref
	}
	return c.Dir
}

// imported is a solver.CacheResultStorage: results that are elsewhere until somebody wants them.
type imported struct {
	title  string
	env    *ops.Env
	keys   *chainStore
	blobs  *pull.Blobs
	layers *remotes
	warn   func(string) // the solver runs a step whose result cannot be had
}

// Save, LoadRemotes and Exists implement solver.CacheResultStorage; nothing is saved into what was imported.
func (imported) Save(solver.Result, time.Time) (solver.CacheResult, error) {
	return solver.CacheResult{}, errors.New("cannot change an imported cache")
}

// LoadRemotes implements solver.CacheResultStorage. While a cache is exported, results are there whose layers all are in it already; others are taken into the
// store first.
func (i imported) LoadRemotes(_ context.Context, res solver.CacheResult, _ *compression.Config, _ session.Group) ([]*solver.Remote, error) {
	tree := i.env.Present(i.keys.remotes[res.ID])
	if i.layers.blobs == nil || tree == nil {
		return nil, nil
	}
	remote, err := i.layers.tree(tree, false)
	if err != nil || remote == nil {
		return nil, err
	}
	return []*solver.Remote{remote}, nil
}

// Exists implements solver.CacheResultStorage.
func (i imported) Exists(_ context.Context, id string) bool { return i.keys.remotes[id] != nil }

// Load implements solver.CacheResultStorage.
func (i imported) Load(ctx context.Context, res solver.CacheResult) (solver.Result, error) {
	list := i.keys.remotes[res.ID]
	if list == nil {
		return nil, solver.ErrNotFound
	}
	r, err := i.env.Import(ctx, i.blobs, list)
	if err != nil {
		i.warn(fmt.Sprintf("a step of the cache %s is not used: %v", i.title, err))
		return nil, err
	}
	return ops.Result(r), nil
}

// importCaches opens the caches to look into. One that cannot be read is told of: a build is right without it.
func importCaches(ctx context.Context, env *ops.Env, list []CacheFrom, layers *remotes, warn func(string)) (managers []solver.CacheManager, closeAll func()) {
	var open []*pull.Blobs
	for _, from := range list {
		blobs, err := openCache(ctx, env, from)
		if err == nil {
			open = append(open, blobs)
			var keys []*chainStore
			keys, err = readCache(ctx, blobs)
			for i, k := range keys {
				managers = append(managers, solver.NewCacheManager(ctx, fmt.Sprintf("%s#%d", from.Title(), i), k, imported{from.Title(), env, k, blobs, layers, warn}))
			}
		}
		if err != nil {
			warn(fmt.Sprintf("the cache %s is not used: %v", from.Title(), err))
		}
	}
	return managers, func() {
		for _, b := range open {
			_ = b.Close() // only read from
		}
	}
}

func openCache(ctx context.Context, env *ops.Env, from CacheFrom) (*pull.Blobs, error) {
	if from.Ref != "" {
		return pull.OpenBlobs(ctx, env.Images, from.Ref, env.Access)
	}
	index, _, err := ops.FindInLayout(from.Dir, from.Tag, from.Digest)
	if err != nil {
		return nil, err
	}
	return pull.OpenLayout(ctx, env.Images, from.Dir, index)
}

// readCache reads the descriptions that a manifest has: its own when it is a cache's, those in the configurations of images otherwise.
func readCache(ctx context.Context, blobs *pull.Blobs) ([]*chainStore, error) {
	data, _, err := blobs.Manifest(ctx, nil)
	if err != nil {
		return nil, err
	}
	// A manifest and an index differ in which of the fields they have.
	var top struct {
		Config    ocispecs.Descriptor   `json:"config"`
		Layers    []ocispecs.Descriptor `json:"layers"`
		Manifests []ocispecs.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("its manifest is damaged: %w", err)
	}
	description := top.Config
	layers := map[digest.Digest]ocispecs.Descriptor{}
	for _, d := range append(top.Layers, top.Manifests...) {
		if d.MediaType == cachetypes.CacheConfigMediaTypeV0 {
			description = d // an index has it among its blobs
		}
		layers[d.Digest] = d
	}
	if description.MediaType == cachetypes.CacheConfigMediaTypeV0 {
		if data, err = blobs.Read(ctx, description); err != nil {
			return nil, err
		}
		var config cachetypes.CacheConfig
		if err := json.Unmarshal(data, &config); err != nil {
			return nil, fmt.Errorf("%w: %w", errDescription, err)
		}
		keys, err := readChains(config, layers)
		return []*chainStore{keys}, err
	}
	if len(top.Manifests) == 0 {
		return oneInline(ctx, blobs, data)
	}
	var all []*chainStore
	for _, d := range top.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue // an attestation
		}
		data, _, err := blobs.Manifest(ctx, &d.Digest)
		if err != nil {
			return nil, err
		}
		keys, err := oneInline(ctx, blobs, data)
		if err != nil && !errors.Is(err, errNoCache) {
			return nil, err
		}
		all = append(all, keys...)
	}
	if len(all) == 0 {
		return nil, errNoCache
	}
	return all, nil
}

// errNoCache is an image that was built without --cache-to type=inline.
var errNoCache = errors.New("there is no cache in it (--cache-to type=inline puts one there)")

// oneInline reads what an image's configuration has of a cache.
func oneInline(ctx context.Context, blobs *pull.Blobs, manifest []byte) ([]*chainStore, error) {
	var m ocispecs.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("its manifest is damaged: %w", err)
	}
	data, err := blobs.Read(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	var config struct {
		RootFS  image.RootFS    `json:"rootfs"`
		History []image.History `json:"history"`
		Cache   []byte          `json:"moby.buildkit.cache.v0"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("its configuration is damaged: %w", err)
	}
	if config.Cache == nil || len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, errNoCache
	}
	var c cachetypes.CacheConfig
	if err := json.Unmarshal(config.Cache, &c.Records); err != nil {
		return nil, fmt.Errorf("%w: %w", errDescription, err)
	}
	var times []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			at := ""
			if h.Created != nil {
				at = h.Created.Format(time.RFC3339Nano)
			}
			times = append(times, at)
		}
	}
	layers := map[digest.Digest]ocispecs.Descriptor{}
	for i, d := range m.Layers {
		d.Annotations = map[string]string{ops.UncompressedKey: config.RootFS.DiffIDs[i]}
		if i < len(times) && times[i] != "" {
			d.Annotations[ops.CreatedKey] = times[i]
		}
		layers[d.Digest] = d
		c.Layers = append(c.Layers, cachetypes.CacheLayer{Blob: d.Digest, ParentIndex: i - 1})
	}
	keys, err := readChains(c, layers)
	return []*chainStore{keys}, err
}
