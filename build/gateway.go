package build

// This file answers the frontend: it solves definitions, reads files of results and finds out about images.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/storage/image"
)

// gateway is the frontend's view of one build.
type gateway struct {
	env  *ops.Env
	job  *solver.Job
	opts map[string]string
	// caches are looked into besides this machine's
	caches []solver.CacheManager
	warn   func(w client.WarnOpts, d digest.Digest, text string)

	mu    sync.Mutex
	wrong error // of an ignore file: the frontend takes one that it cannot read for one that is not there
}

// BuildOpts says what this builder can do. Merging layers is left out, so that COPY --link is a plain copy.
func (g *gateway) BuildOpts() client.BuildOpts {
	var caps []*apicaps.PBCap
	for _, c := range pb.Caps.All() {
		if c.ID != string(pb.CapMergeOp) && c.ID != string(pb.CapDiffOp) {
			caps = append(caps, c)
		}
	}
	return client.BuildOpts{
		Opts: g.opts, SessionID: "skiff", Product: "skiff", LLBCaps: pb.Caps.CapSet(caps), Caps: gwpb.Caps.CapSet(gwpb.Caps.All()),
		Workers: []client.WorkerInfo{{ID: "skiff", Platforms: []ocispecs.Platform{platforms.Normalize(platforms.DefaultSpec())}}},
	}
}

// Solve runs a definition when its result is asked for.
func (g *gateway) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Frontend != "" {
		return nil, fmt.Errorf("cannot use frontend %s: only the built-in Dockerfile frontend is run", req.Frontend)
	}
	if err := g.ignored(); err != nil {
		return nil, err
	}
	r := &reference{g: g, def: req.Definition}
	if req.Evaluate {
		if _, err := r.result(ctx); err != nil {
			return nil, err
		}
	}
	res := client.NewResult()
	res.SetRef(r)
	return res, nil
}

// ResolveSourceMetadata tells the frontend of an image's configuration.
func (g *gateway) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	name, ok := strings.CutPrefix(op.Identifier, "docker-image://")
	if !ok {
		return &sourceresolver.MetaResponse{Op: op}, nil
	}
	var platform *pb.Platform
	if opt.ImageOpt != nil {
		platform = platformOf(opt.ImageOpt.Platform)
	}
	img, err := g.env.Image(ctx, name, platform, g.env.Pull)
	if err != nil {
		return nil, err
	}
	config, err := g.config(img)
	if err != nil {
		return nil, err
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Digest: digest.Digest(g.env.Pin(img)), Config: config}}, nil
}

// config is an image's configuration as it was made.
func (g *gateway) config(img *image.Image) ([]byte, error) {
	data, err := g.env.Images.Library().ImageBigData(img.ID, "sha256:"+img.ID)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration of image %s: %w", img.ID[:12], err)
	}
	return data, nil
}

// platformOf is a platform as operations have it; nil stays nil.
func platformOf(p *ocispecs.Platform) *pb.Platform {
	if p == nil {
		return nil
	}
	return &pb.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// ResolveImageConfig is the older question for the same.
func (g *gateway) ResolveImageConfig(ctx context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if o := opt.OCILayoutOpt; o != nil {
		img, err := g.env.Layout(ctx, o.Store.StoreID, platformOf(o.Platform))
		if err != nil {
			return "", "", nil, err
		}
		config, err := g.config(img)
		return name, digest.Digest(g.env.Pin(img)), config, err
	}
	res, err := g.ResolveSourceMetadata(ctx, &pb.SourceOp{Identifier: "docker-image://" + name}, opt)
	if err != nil {
		return "", "", nil, err
	}
	return name, res.Image.Digest, res.Image.Config, nil
}

// Inputs is nothing: definitions come from the frontend alone.
func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer is refused: the frontend runs nothing outside the graph.
func (g *gateway) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("cannot run a container for the frontend")
}

// Warn passes a warning on.
func (g *gateway) Warn(_ context.Context, d digest.Digest, text string, opts client.WarnOpts) error {
	g.warn(opts, d, text)
	return nil
}

// reference is a result that is made when it is needed.
type reference struct {
	g    *gateway
	def  *pb.Definition
	once sync.Once
	ref  *ops.Ref
	made solver.CachedResult // nil of an empty tree
	err  error
}

// result solves the definition, once.
func (r *reference) result(ctx context.Context) (*ops.Ref, error) {
	r.once.Do(func() {
		edge, ok, err := load(r.def, r.g.caches)
		if err != nil || !ok {
			r.ref, r.err = &ops.Ref{}, err
			return
		}
		res, err := r.g.job.Build(ctx, edge)
		if err != nil {
			r.err = located(err, r.def)
			return
		}
		r.made = res
		ref, isRef := res.Sys().(*ops.Ref)
		if !isRef {
			r.err = fmt.Errorf("cannot use a result of type %T", res.Sys())
		}
		r.ref = ref
	})
	return r.ref, r.err
}

// ToState makes a definition again.
func (r *reference) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(op), nil
}

// Evaluate solves now.
func (r *reference) Evaluate(ctx context.Context) error {
	_, err := r.result(ctx)
	return err
}

func (r *reference) root(ctx context.Context) (*os.File, error) {
	ref, err := r.result(ctx)
	if err != nil {
		return nil, err
	}
	src, err := r.g.env.Source(ctx, ref)
	return src.Root, err
}
