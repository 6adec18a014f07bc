// Package build makes images out of Dockerfiles: BuildKit's own Dockerfile frontend and solver, run in this process, over the steps of
// build/ops. There is no other process but the commands that the Dockerfile runs. What was built before is remembered on the disk and
// shared by all builds of the user.
//
// It runs in the engine, inside the user namespace.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gateway2 "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"

	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage"
)

// Options of Build.
type Options struct {
	// Frontend are the options of the Dockerfile frontend, in its own names: filename, target, build-arg:X, label:X, no-cache, platform, context, ...
	Frontend map[string]string
	// Locals are the directories that the build reads: dockerfile, context (unless Frontend has a remote one), and named ones.
	Locals  map[string]string
	Access  pull.Access
	Pull    bool // images are asked for at their registries even when they are here
	Network string
	// CgroupParent is the control group that those of RUN are made in, "" chooses; Limits are those of each RUN.
	CgroupParent string
	Limits       config.Limits
	// Layouts are the OCI layouts that are contexts by name: DIR[:TAG][@DIGEST].
	Layouts map[string]string
	Switch  ops.Switch
	// CacheFrom are caches to look into besides this machine's, CacheTo where the cache of this build goes.
	CacheFrom []CacheFrom
	CacheTo   []CacheTo
	Secrets   map[string]func() ([]byte, error)
	SSH       map[string]string
	// Insecure, HostNetwork and AllowDevices are what --allow allows; "*" is all devices.
	Insecure, HostNetwork bool
	AllowDevices          []string
	// Devices and CDI are given to each RUN: nodes of the host, and names of the Container Device Interface.
	Devices []config.Device
	CDI     []string
	// Progress is how to tell of it on Err: auto, tty, plain, rawjson or quiet.
	Progress string
	Err      *os.File
	// Rewrite gives files later than SOURCE_DATE_EPOCH that time.
	Rewrite bool
	// Provenance asks for an attestation beside each image of a layout; nil is none.
	Provenance *Provenance
	// Squash makes one layer of all that is built.
	Squash bool
	// Failed, when not nil, is called with the error and the RUN that failed, nil when it was something else, while that is still as its command left it.
	Failed func(err error, step *ops.Failure)
}

// Built is what came out, before it is written anywhere.
type Built struct {
	Images []Image // one per platform; none when nothing was to be built
	// Text is the answer to --call and --check, which build nothing.
	Text map[string][]byte

	store   *snap.Store
	images  *storage.Store
	options Options
	remotes *remotes
	env     *ops.Env
	started time.Time
}

// say tells the user something that is no error.
func (b *Built) say(text string) {
	if b.options.Progress != "quiet" && b.options.Progress != "rawjson" {
		fmt.Fprintf(b.options.Err, "warning: %s\n", text)
	}
}

// Build builds and hands the result to write, while all that it needs is held.
func Build(ctx context.Context, images *storage.Store, o Options, write func(*Built) error) (err error) {
	unlock, err := images.Writing()
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // closes a descriptor
	store, err := snap.Open(images)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := tidy(store, images); err != nil {
		return err
	}
	keys, err := openJournal(store.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	memory := openHashes(store.Dir)
	defer func() { err = errors.Join(err, memory.Close()) }()
	env := &ops.Env{
		Memory: memory,
		Snap:   store, Images: images, Access: o.Access, Pull: o.Pull, Locals: map[string]*os.File{}, Nonce: identity.NewID(),
		Secrets: o.Secrets, SSH: o.SSH, Network: o.Network, Switch: o.Switch, Insecure: o.Insecure, HostNetwork: o.HostNetwork,
		CgroupParent: o.CgroupParent, Limits: o.Limits, KeepFailed: o.Failed != nil,
		Devices: o.Devices, CDI: o.CDI, AllowDevices: o.AllowDevices,
	}
	for name, dir := range o.Locals {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("cannot read the build's directory %q: %w", name, err)
		}
		defer f.Close() // only read from
		env.Locals[name] = f
	}
	layers, started := &remotes{}, time.Now().UTC()
	s := solver.NewSolver(solver.SolverOpt{
		ResolveOpFunc: env.Resolve,
		DefaultCache:  solver.NewCacheManager(ctx, "local", keys, results{env, layers}),
	})
	defer s.Close()
	job, err := s.NewJob(identity.NewID())
	if err != nil {
		return err
	}
	defer job.Discard() //nolint:errcheck // the process ends
	built, err := solve(ctx, env, job, layers, o)
	if err != nil && o.Failed != nil && ctx.Err() == nil {
		step := env.Failed()
		o.Failed(err, step)
		err = errors.Join(err, step.Close())
	}
	if err != nil {
		return err
	}
	built.store, built.images, built.options, built.remotes, built.env, built.started = store, images, o, layers, env, started
	if len(o.CacheTo) > 0 {
		if layers.blobs, err = built.newBlobs(filepath.Join(images.Scratch(), "cache-"+identity.NewID())); err != nil {
			return err
		}
		if err := built.inline(ctx); err != nil {
			return err
		}
	}
	if err := write(built); err != nil {
		return err
	}
	return built.exportCaches(ctx)
}

// solve runs the frontend and what it asks for.
func solve(ctx context.Context, env *ops.Env, job *solver.Job, layers *remotes, o Options) (*Built, error) {
	shown, warn, err := show(ctx, job, o)
	if err != nil {
		return nil, err
	}
	opts := maps.Clone(o.Frontend)
	for name, where := range o.Layouts {
		if opts["context:"+name], err = env.AddLayout(name, where); err != nil {
			return nil, err
		}
	}
	opts["cmdline"] = "builtin" // a # syntax= line would ask for a frontend from a registry
	caches, closeCaches := importCaches(ctx, env, o.CacheFrom, layers, func(text string) { warn(gateway2.WarnOpts{}, "", text) })
	defer closeCaches()
	g := &gateway{env: env, job: job, opts: opts, warn: warn, caches: caches}
	res, err := builder.Build(ctx, g)
	if wrong := g.ignored(); wrong != nil {
		err = wrong
	}
	var built *Built
	if err == nil {
		built, err = finish(ctx, res)
	}
	job.CloseProgress()
	shown()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return built, err
}

// show starts telling of the progress; the function it returns waits until all is told.
func show(ctx context.Context, job *solver.Job, o Options) (done func(), warn func(gateway2.WarnOpts, digest.Digest, string), err error) {
	mode := progressui.DisplayMode(o.Progress)
	display, err := progressui.NewDisplay(o.Err, mode)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot show progress as %q: %w", o.Progress, err)
	}
	ctx = context.WithoutCancel(ctx)
	status := make(chan *bkclient.SolveStatus)
	merged := make(chan *bkclient.SolveStatus, 16)
	finished := make(chan struct{})
	last := &tails{steps: map[digest.Digest]*tail{}}
	go func() {
		for s := range status {
			if mode == progressui.QuietMode {
				last.add(s)
			}
			merged <- s
		}
		close(merged)
	}()
	go func() {
		_, _ = display.UpdateFrom(ctx, merged) // a terminal that went away ends no build
		for range merged {
			continue
		}
		close(finished)
	}()
	go func() { _ = job.Status(ctx, status) }() // it ends with the job
	var warnings []func()
	var mu sync.Mutex
	warn = func(w gateway2.WarnOpts, _ digest.Digest, text string) {
		if o.Progress == "quiet" || o.Progress == "rawjson" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		warnings = append(warnings, func() { fmt.Fprintf(o.Err, "\nwarning: %s\n", text); printRanges(o.Err, w) })
	}
	return func() {
		<-finished
		last.print(o.Err)
		for _, w := range warnings {
			w()
		}
	}, warn, nil
}

// printRanges shows the Dockerfile's lines that a warning is about.
func printRanges(w io.Writer, o gateway2.WarnOpts) {
	if o.SourceInfo == nil {
		return
	}
	src := errdefs.Source{Info: o.SourceInfo, Ranges: o.Range}
	_ = src.Print(w) // the warning itself is told
}

// PrintSource shows the Dockerfile's lines that an error comes from, and says whether there were any.
func PrintSource(w io.Writer, err error) bool {
	sources := errdefs.Sources(err)
	for _, s := range sources {
		_ = s.Print(w) // the error itself is told
	}
	return len(sources) > 0
}
