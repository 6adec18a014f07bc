package build

// This file writes attestations beside images: an in-toto statement in a manifest of its own, which the index names next to the image's (BuildKit's
// documentation, docs/attestations/attestation-storage.md). It also writes down the steps of a build for them.

import (
	"context"
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/storage/image"
)

// statement is an in-toto statement.
type statement struct {
	Type          string    `json:"_type"`
	PredicateType string    `json:"predicateType"`
	Subject       []subject `json:"subject"`
	Predicate     any       `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// attest writes the attestation of an image that has been written, and returns its line of the index.
func (b *Built) attest(ctx context.Context, s *blobs, img *Image, of ocispecs.Descriptor, names []string) (ocispecs.Descriptor, error) {
	predicate, kind, err := b.predicate(ctx, img)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	st := statement{Type: "https://in-toto.io/Statement/v0.1", PredicateType: kind, Predicate: predicate}
	sums := map[string]string{of.Digest.Algorithm().String(): of.Digest.Encoded()}
	for _, name := range names {
		uri, _, err := packageURL("docker", name, &pb.Platform{OS: of.Platform.OS, Architecture: of.Platform.Architecture, Variant: of.Platform.Variant})
		if err != nil {
			return ocispecs.Descriptor{}, err
		}
		st.Subject = append(st.Subject, subject{uri, sums})
	}
	if len(names) == 0 {
		st.Subject = []subject{{"_", sums}}
	}
	layer, err := s.document(st, "application/vnd.in-toto+json")
	if err != nil {
		return layer, err
	}
	layer.Annotations = map[string]string{"in-toto.io/predicate-type": kind}
	config := map[string]any{
		"architecture": "unknown", "os": "unknown", "config": map[string]any{}, "rootfs": image.RootFS{Type: "layers", DiffIDs: []string{layer.Digest.String()}},
	}
	m := ocispecs.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest, Layers: []ocispecs.Descriptor{layer}}
	if m.Config, err = s.document(config, ocispecs.MediaTypeImageConfig); err != nil {
		return layer, err
	}
	d, err := s.document(m, ocispecs.MediaTypeImageManifest)
	d.Platform = &ocispecs.Platform{Architecture: "unknown", OS: "unknown"}
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of.Digest.String()}
	return d, err
}

// steps are the operations of a definition, by digest, and their order: each after those it needs. The end, which does nothing, is not one.
func steps(def *pb.Definition) (map[digest.Digest]*pb.Op, []digest.Digest, error) {
	list := map[digest.Digest]*pb.Op{}
	var order []digest.Digest
	if def == nil || len(def.Def) == 0 {
		return list, nil, nil
	}
	all := map[digest.Digest]*pb.Op{}
	var last *pb.Op
	for _, data := range def.Def {
		op := &pb.Op{}
		if err := op.Unmarshal(data); err != nil {
			return nil, nil, fmt.Errorf("cannot read the definition: %w", err)
		}
		all[digest.FromBytes(data)], last = op, op
	}
	var visit func(op *pb.Op) error
	visit = func(op *pb.Op) error {
		for _, in := range op.Inputs {
			sum := digest.Digest(in.Digest)
			if list[sum] != nil {
				continue
			}
			from := all[sum]
			if from == nil {
				return fmt.Errorf("cannot read the definition: step %s is missing", sum)
			}
			list[sum] = from
			if err := visit(from); err != nil {
				return err
			}
			order = append(order, sum)
		}
		return nil
	}
	return list, order, visit(last)
}

// describe writes the steps down, and the lines of the Dockerfile that they come from.
func describe(def *pb.Definition, list map[digest.Digest]*pb.Op, order []digest.Digest) (*types.BuildConfig, *types.Source) {
	config := &types.BuildConfig{DigestMapping: map[digest.Digest]string{}}
	for i, sum := range order {
		config.DigestMapping[sum] = fmt.Sprintf("step%d", i)
	}
	for i, sum := range order {
		op := list[sum].CloneVT()
		s := types.BuildStep{ID: fmt.Sprintf("step%d", i), Op: op, Inputs: []string{}}
		for _, in := range op.Inputs {
			s.Inputs = append(s.Inputs, fmt.Sprintf("%s:%d", config.DigestMapping[digest.Digest(in.Digest)], in.Index))
		}
		op.Inputs = nil
		if src := op.GetSource(); src != nil {
			delete(src.Attrs, pb.AttrLocalSessionID)
			delete(src.Attrs, pb.AttrLocalUniqueID)
		}
		config.Definition = append(config.Definition, s)
	}
	if def == nil || def.Source == nil || len(def.Source.Infos) == 0 {
		return config, nil
	}
	source := &types.Source{Locations: map[string]*pb.Locations{}}
	for _, info := range def.Source.Infos {
		source.Infos = append(source.Infos, types.SourceInfo{Filename: info.Filename, Language: info.Language, Data: slices.Clone(info.Data)})
	}
	for sum, where := range def.Source.Locations {
		if name := config.DigestMapping[digest.Digest(sum)]; name != "" {
			source.Locations[name] = where
		}
	}
	return config, source
}
