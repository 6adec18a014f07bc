package ops

// This file takes layers of an imported cache into the store, when a step is found there.

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Annotations of a layer's descriptor in a cache, in containerd's and BuildKit's words.
const (
	UncompressedKey = "containerd.io/uncompressed" // the digest before compression
	CreatedKey      = "buildkit/createdat"
)

// chainPrefix is that of keys of results that are layers of the store; the file is in the build directory.
const (
	chainPrefix = "chain-"
	chainsDir   = "chains"
)

// Opener reads a blob.
type Opener interface {
	Open(ctx context.Context, d ocispecs.Descriptor) (io.ReadCloser, error)
}

// Import makes a result of layers that are elsewhere, lowest first. Those that are in the store already are taken from there; the others stay in it as long as
// an image has them.
func (e *Env) Import(ctx context.Context, from Opener, layers []ocispecs.Descriptor) (*Ref, error) {
	e.pulling.Lock()
	defer e.pulling.Unlock()
	var tree snap.Tree
	parent := ""
	for _, d := range layers {
		l, err := e.importLayer(ctx, from, d, parent)
		if err != nil {
			return nil, fmt.Errorf("cannot take a layer from the cache: %w", err)
		}
		dir, err := e.Images.LayerDir(l.ID)
		if err != nil {
			return nil, err
		}
		tree, parent = append(tree, snap.Layer{ID: l.ID, Dir: dir, Made: madeAt(d)}), l.ID
	}
	data, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	file := e.chainFile(parent)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("cannot remember what was imported: %w", err)
	}
	if err := disk.WriteFile(file, data, 0o600, disk.Volatile); err != nil {
		return nil, fmt.Errorf("cannot remember what was imported: %w", err)
	}
	return &Ref{Key: chainPrefix + parent, Tree: tree}, nil
}

// Present is the tree of layers that all are in the store; nil when one is not.
func (e *Env) Present(layers []ocispecs.Descriptor) snap.Tree {
	var tree snap.Tree
	parent := ""
	for _, d := range layers {
		l, ok := e.Images.HasLayer(d.Annotations[UncompressedKey], parent)
		if !ok {
			return nil
		}
		dir, err := e.Images.LayerDir(l.ID)
		if err != nil {
			return nil
		}
		tree, parent = append(tree, snap.Layer{ID: l.ID, Dir: dir, Made: madeAt(d)}), l.ID
	}
	return tree
}

// madeAt is when a layer was made; a cache need not say it.
func madeAt(d ocispecs.Descriptor) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, d.Annotations[CreatedKey])
	return at
}

func (e *Env) chainFile(id string) string {
	return filepath.Join(e.Snap.Dir, chainsDir, id+".json")
}

// importLayer unpacks one layer; the digests of what comes and of what it unpacks to must be those that the cache says.
func (e *Env) importLayer(ctx context.Context, from Opener, d ocispecs.Descriptor, parent string) (storage.Layer, error) {
	plain := d.Annotations[UncompressedKey]
	if err := digest.Digest(plain).Validate(); err != nil {
		return storage.Layer{}, fmt.Errorf("the digest of layer %s is malformed: %w", d.Digest, err)
	}
	if l, ok := e.Images.HasLayer(plain, parent); ok {
		return l, nil
	}
	var sum error // that of what was read last
	l, err := e.Images.PutLayerAs(plain, parent, func() (io.ReadCloser, error) {
		in, err := from.Open(ctx, d)
		return &summed{ReadCloser: in, hash: sha256.New(), want: d.Digest, err: &sum}, err
	})
	if err == nil && sum != nil {
		err = errors.Join(sum, e.Images.DropLayer(l))
	}
	if err != nil {
		return storage.Layer{}, err
	}
	return l, nil
}

// summed reads to the end when it is closed, and says then whether the digest was the one that was wanted.
type summed struct {
	io.ReadCloser
	hash hash.Hash
	want digest.Digest
	err  *error
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.hash.Write(p[:n])
	return n, err
}

func (s *summed) Close() error {
	_, err := io.Copy(io.Discard, s)
	if err == nil && digest.NewDigest(digest.SHA256, s.hash) != s.want {
		err = fmt.Errorf("the digest of layer %s is another", s.want)
	}
	*s.err = err
	return s.ReadCloser.Close()
}

// loadChain finds an imported result again, as long as its layers are in the store.
func (e *Env) loadChain(key string) (*Ref, error) {
	id := strings.TrimPrefix(key, chainPrefix)
	if id == "" || strings.ContainsAny(id, "/.") {
		return nil, fmt.Errorf("cannot use %q: %w", key, os.ErrNotExist)
	}
	data, err := os.ReadFile(e.chainFile(id))
	if err != nil {
		return nil, err
	}
	var tree snap.Tree
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("cannot read what was imported: %w", err)
	}
	for _, l := range tree {
		if _, err := os.Lstat(l.Dir); err != nil {
			return nil, fmt.Errorf("cannot use what was imported: %w", err)
		}
	}
	return &Ref{Key: key, Tree: tree}, nil
}
