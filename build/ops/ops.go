// Package ops is what the steps of a build do: fetch a source, run a command, change files. BuildKit's solver decides which of them
// run, in which order and what is taken from the cache.
//
// All of it runs in the engine, inside the user namespace; commands get namespaces of their own by run/oci.
package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/image"
)

// Env is what all steps of one build share.
type Env struct {
	Snap   *snap.Store
	Images *storage.Store
	Access pull.Access
	// Pull says that images are asked for at their registries even when they are here.
	Pull bool
	// Locals are the directories of the user that the build may read, by name.
	Locals map[string]*os.File
	// Nonce tells this build's directories from those of other builds: they are compared by their contents.
	Nonce string
	// Secrets and SSH are by id; a secret is read when it is needed.
	Secrets map[string]func() ([]byte, error)
	SSH     map[string]string
	// Network is that of commands that ask for none in particular: host, none or the name of a network, which the switch connects them with.
	Network string
	Switch  Switch
	// Insecure allows --security=insecure and HostNetwork --network=host.
	Insecure, HostNetwork bool
	// Devices are given to every command: nodes of the host, and names of the Container Device Interface. AllowDevices are the names that RUN --device may ask for; * is all.
	Devices      []config.Device
	CDI          []string
	AllowDevices []string
	// CgroupParent is the control group that commands get theirs in; "" chooses. Limits are those of each command.
	CgroupParent string
	Limits       config.Limits
	// Memory keeps the digests of files.
	Memory files.Remember
	// Warn tells the user something about the build.
	Warn func(text string)
	// KeepFailed keeps the first RUN that fails as its command left it, for Failed.
	KeepFailed bool

	pulling sync.Mutex
	pulled  map[string]*image.Image
	pinned  map[string][]*image.Image // by digest
	layouts map[string]*layout        // by the name that the frontend has for it
	gotten  sync.Map                  // of downloads and clones, by their description
	keeping sync.Mutex
	failed  *Failure
}

// Ref is the result of a step: layers, or a directory of the user's that is read where it is.
type Ref struct {
	Key   string // what the cache knows it by; "" is not cached
	Tree  snap.Tree
	Local *Local
}

// Local is a directory of the user's.
type Local struct {
	Root   *os.File
	Ignore []string
}

// Result makes a solver's result of a Ref.
func Result(r *Ref) solver.Result { return result{r} }

type result struct{ ref *Ref }

// ID names the result.
func (r result) ID() string {
	if r.ref.Key == "" {
		return fmt.Sprintf("%p", r.ref)
	}
	return r.ref.Key
}

// Release does nothing: results are files.
func (r result) Release(context.Context) error { return nil }

// Sys is the Ref.
func (r result) Sys() any { return r.ref }

// Clone is the result itself.
func (r result) Clone() solver.Result { return r }

// Resolve finds the operation of a vertex.
func (e *Env) Resolve(v solver.Vertex, _ solver.Builder) (solver.Op, error) {
	op, ok := v.Sys().(*pb.Op)
	if !ok {
		return nil, fmt.Errorf("cannot run a step of type %T", v.Sys())
	}
	common := base{env: e, name: v.Name(), inputs: len(v.Inputs())}
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		return &sourceOp{common, o.Source, op.Platform}, nil
	case *pb.Op_Exec:
		return &execOp{common, o.Exec, op.Platform}, nil
	case *pb.Op_File:
		return &fileOp{common, o.File}, nil
	}
	return nil, fmt.Errorf("cannot run step %q: operation %T is not known", v.Name(), op.Op)
}

// base is what operations have in common.
type base struct {
	env    *Env
	name   string
	inputs int
}

// Acquire lets every step run at once: the machine schedules them.
func (base) Acquire(context.Context) (solver.ReleaseFunc, error) { return func() {}, nil }

// ref is the Ref of an input, nil for an index that means nothing.
func ref(inputs []solver.Result, i int64) (*Ref, error) {
	if i < 0 {
		return &Ref{}, nil
	}
	if int(i) >= len(inputs) {
		return nil, fmt.Errorf("cannot find input %d of a step that has %d", i, len(inputs))
	}
	r, ok := inputs[i].Sys().(*Ref)
	if !ok {
		return nil, fmt.Errorf("cannot use a result of type %T", inputs[i].Sys())
	}
	return r, nil
}

// cacheMap is a cache key made of an operation's description, with content keys for the inputs in picks.
func (b base) cacheMap(kind string, describe any, picks map[int][]files.Pick) (*solver.CacheMap, error) {
	data, err := json.Marshal(struct {
		Kind string
		Op   any
	}{kind, describe})
	if err != nil {
		return nil, err
	}
	m := &solver.CacheMap{Digest: digest.FromBytes(data)}
	m.Deps = make([]struct {
		Selector          digest.Digest
		ComputeDigestFunc solver.ResultBasedCacheFunc
		PreprocessFunc    solver.PreprocessFunc
	}, b.inputs)
	for i, list := range picks {
		if i < 0 || i >= b.inputs || len(list) == 0 {
			continue
		}
		text, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		m.Deps[i].Selector = digest.FromBytes(text)
		m.Deps[i].ComputeDigestFunc = b.env.contentKey(list)
	}
	return m, nil
}

// Source opens a Ref for reading.
func (e *Env) Source(ctx context.Context, r *Ref) (files.Source, error) {
	if r.Local != nil {
		src := files.Source{Root: r.Local.Root, Ignore: r.Local.Ignore, Flat: &files.Owner{}}
		// Whoever builds their home directory does not mean the images and layers in it, which would be copied into themselves.
		var store unix.Stat_t
		if err := unix.Stat(e.Images.Data(), &store); err != nil {
			return files.Source{}, fmt.Errorf("cannot tell the store from the build context: %w", err)
		}
		src.Without = [2]uint64{store.Dev, store.Ino}
		return src, nil
	}
	v, err := e.Snap.View(ctx, r.Tree)
	if err != nil {
		return files.Source{}, err
	}
	return files.Source{Root: v.Root}, nil
}

// words joins a command for people.
func words(args []string) string {
	var b bytes.Buffer
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

// setEnv replaces or adds a variable.
func setEnv(env []string, name, value string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, name+"=") })
	return append(env, name+"="+value)
}
