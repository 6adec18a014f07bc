package build

// This file turns a frontend's definition into the graph that the solver works on, and an error of a step into the lines it comes from.

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// vertex is a step of the graph.
type vertex struct {
	op      *pb.Op
	digest  digest.Digest
	options solver.VertexOptions
	inputs  []solver.Edge
}

// Digest, Sys, Options, Inputs and Name make it a solver.Vertex.
func (v *vertex) Digest() digest.Digest         { return v.digest }
func (v *vertex) Sys() any                      { return v.op }
func (v *vertex) Options() solver.VertexOptions { return v.options }
func (v *vertex) Inputs() []solver.Edge         { return v.inputs }

// Name is what people see.
func (v *vertex) Name() string {
	if n := v.options.Description["llb.customname"]; n != "" {
		return n
	}
	switch o := v.op.Op.(type) {
	case *pb.Op_Source:
		return o.Source.Identifier
	case *pb.Op_Exec:
		return fmt.Sprint(o.Exec.Meta.Args)
	}
	return string(v.digest)
}

// load makes the graph of a definition and returns its end; nothing is a definition too, of an empty tree.
func load(def *pb.Definition, caches []solver.CacheManager) (solver.Edge, bool, error) {
	if def == nil || len(def.Def) == 0 {
		return solver.Edge{}, false, nil
	}
	ops := map[digest.Digest]*pb.Op{}
	var last *pb.Op
	for _, data := range def.Def {
		op := &pb.Op{}
		if err := op.Unmarshal(data); err != nil {
			return solver.Edge{}, false, fmt.Errorf("cannot read the definition: %w", err)
		}
		ops[digest.FromBytes(data)] = op
		last = op
	}
	if last.Op != nil {
		return solver.Edge{}, false, errors.New("cannot read the definition: it has no end")
	}
	if len(last.Inputs) != 1 {
		return solver.Edge{}, false, nil
	}
	made := map[digest.Digest]*vertex{}
	var visit func(d digest.Digest) (*vertex, error)
	visit = func(d digest.Digest) (*vertex, error) {
		if v := made[d]; v != nil {
			return v, nil
		}
		op := ops[d]
		if op == nil {
			return nil, fmt.Errorf("cannot read the definition: step %s is missing", d)
		}
		v := &vertex{op: op, digest: d}
		if m := def.Metadata[string(d)]; m != nil {
			v.options = solver.VertexOptions{IgnoreCache: m.IgnoreCache, Description: m.Description, ProgressGroup: m.ProgressGroup}
		}
		v.options.CacheSources = caches
		for _, in := range op.Inputs {
			from, err := visit(digest.Digest(in.Digest))
			if err != nil {
				return nil, err
			}
			v.inputs = append(v.inputs, solver.Edge{Index: solver.Index(in.Index), Vertex: from})
		}
		made[d] = v
		return v, nil
	}
	in := last.Inputs[0]
	v, err := visit(digest.Digest(in.Digest))
	if err != nil {
		return solver.Edge{}, false, err
	}
	return solver.Edge{Index: solver.Index(in.Index), Vertex: v}, true, nil
}

// located adds the Dockerfile's lines to an error of a step.
func located(err error, def *pb.Definition) error {
	var failed *errdefs.VertexError
	if err == nil || def.GetSource() == nil || !errors.As(err, &failed) {
		return err
	}
	locations := def.Source.Locations[failed.Digest]
	if locations == nil {
		return err
	}
	for _, l := range locations.Locations {
		if int(l.SourceIndex) < len(def.Source.Infos) {
			err = errdefs.WithSource(err, &errdefs.Source{Info: def.Source.Infos[l.SourceIndex], Ranges: l.Ranges})
		}
	}
	return err
}
