package ops

// This file is where trees come from: images and directories of the user's.

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage/image"
)

type sourceOp struct {
	base
	op       *pb.SourceOp
	platform *pb.Platform
}

// CacheMap implements solver.Op. An image counts by its id, a download by its digest; a directory is never the same twice, and what
// is taken from it is compared by content.
func (o *sourceOp) CacheMap(ctx context.Context, _ solver.JobContext, _ int) (*solver.CacheMap, bool, error) {
	scheme, rest, _ := strings.Cut(o.op.Identifier, "://")
	var key any
	switch scheme {
	case "docker-image":
		img, err := o.env.Image(ctx, rest, o.platform, o.env.Pull)
		if err != nil {
			return nil, false, err
		}
		key = img.ID
	case "oci-layout":
		img, err := o.env.Layout(ctx, o.op.Attrs[pb.AttrOCILayoutStoreID], o.platform)
		if err != nil {
			return nil, false, err
		}
		scheme, key = "docker-image", img.ID
	case "local":
		key = []any{o.env.Nonce, rest, o.op.Attrs}
	case "http", "https":
		got, err := o.env.download(ctx, o.op)
		if err != nil {
			return nil, false, err
		}
		key = []any{got.sum, o.op.Attrs}
	case "git":
		got, err := o.env.clone(ctx, o.op)
		if err != nil {
			return nil, false, err
		}
		key = []any{got.commit, got.subdir, o.op.Attrs[pb.AttrKeepGitDir]}
	default:
		return nil, false, fmt.Errorf("cannot build from %s: there are images, directories, OCI layouts, http(s) and git", o.op.Identifier)
	}
	m, err := o.cacheMap("skiff.source."+scheme+".v1", key, nil)
	if err == nil && scheme == "local" {
		m.Digest = digest.Digest("random:" + m.Digest.Encoded()) // never found again: it is not worth keeping
	}
	return m, true, err
}

// Exec implements solver.Op.
func (o *sourceOp) Exec(ctx context.Context, _ solver.JobContext, _ []solver.Result) ([]solver.Result, error) {
	scheme, rest, _ := strings.Cut(o.op.Identifier, "://")
	var r *Ref
	var err error
	switch scheme {
	case "docker-image":
		img, imgErr := o.env.Image(ctx, rest, o.platform, o.env.Pull)
		if imgErr != nil {
			return nil, imgErr
		}
		r = &Ref{Key: "image-" + img.ID, Tree: o.env.Snap.Image(img)}
	case "oci-layout":
		img, imgErr := o.env.Layout(ctx, o.op.Attrs[pb.AttrOCILayoutStoreID], o.platform)
		if imgErr != nil {
			return nil, imgErr
		}
		r = &Ref{Key: "image-" + img.ID, Tree: o.env.Snap.Image(img)}
	case "local":
		r, err = o.local(rest)
	case "http", "https":
		r, err = o.env.downloaded(ctx, o.op, o.name)
	case "git":
		r, err = o.env.cloned(ctx, o.op, o.name)
	}
	if err != nil {
		return nil, err
	}
	return []solver.Result{Result(r)}, nil
}

// local reads a directory of the user's where it is.
func (o *sourceOp) local(name string) (*Ref, error) {
	root := o.env.Locals[name]
	if root == nil {
		return nil, fmt.Errorf("cannot read the directory %q: the build was not given it", name)
	}
	l := &Local{Root: root}
	if text := o.op.Attrs[pb.AttrExcludePatterns]; text != "" {
		if err := json.Unmarshal([]byte(text), &l.Ignore); err != nil {
			return nil, fmt.Errorf("cannot read the patterns of %q: %w", name, err)
		}
	}
	return &Ref{Local: l}, nil
}

// Image finds an image here, or pulls it.
func (e *Env) Image(ctx context.Context, name string, p *pb.Platform, always bool) (*image.Image, error) {
	platform := platformOf(p)
	e.pulling.Lock()
	defer e.pulling.Unlock()
	if _, sum, ok := strings.Cut(name, "@"); ok {
		for _, img := range e.pinned[sum] { // the digest of an index is that of several images
			if platform.Matches(img.Config.OS, img.Config.Architecture, img.Config.Variant) {
				return img, nil
			}
		}
	}
	key := name + "|" + fmt.Sprint(platform)
	if img := e.pulled[key]; img != nil {
		return img, nil
	}
	var img *image.Image
	if !always {
		var err error
		if img, err = e.Images.Present(name); err != nil {
			return nil, err
		}
		if img != nil && !platform.Matches(img.Config.OS, img.Config.Architecture, img.Config.Variant) {
			img = nil
		}
	}
	if img == nil {
		done, err := pull.Pull(ctx, e.Images, name, pull.Options{Access: e.Access, Platform: platform, Unnamed: foreign(platform)})
		if err != nil {
			return nil, err
		}
		if err := e.Images.Reconcile(); err != nil {
			return nil, err
		}
		if img, err = e.Images.Index.Load(done[0].ID); err != nil {
			return nil, err
		}
	}
	if e.pulled == nil {
		e.pulled = map[string]*image.Image{}
	}
	e.pulled[key] = img
	return img, nil
}

// foreign says whether a platform is another than this machine's. An image for it must not take the name from the one that is run here.
func foreign(p pull.Platform) bool { return p.Architecture != "" && p.Architecture != runtime.GOARCH }

// Pin makes the name that a frontend gives an image, once it knows the digest, mean this very image for the rest of the build.
func (e *Env) Pin(img *image.Image) string {
	sum := img.Digest
	if sum == "" {
		sum = "sha256:" + img.ID
	}
	e.pulling.Lock()
	defer e.pulling.Unlock()
	if e.pinned == nil {
		e.pinned = map[string][]*image.Image{}
	}
	e.pinned[sum] = append(e.pinned[sum], img)
	return sum
}

// Load finds a result again by its key.
func (e *Env) Load(key string) (*Ref, error) {
	if id, ok := strings.CutPrefix(key, "image-"); ok {
		img, err := e.Images.Index.Load(id)
		if err != nil {
			return nil, err
		}
		return &Ref{Key: key, Tree: e.Snap.Image(img)}, nil
	}
	if strings.HasPrefix(key, chainPrefix) {
		return e.loadChain(key)
	}
	tree, err := e.Snap.Load(key)
	if err != nil {
		return nil, err
	}
	return &Ref{Key: key, Tree: tree}, nil
}
