package build

// This file is SLSA provenance: what an image was made from and how, in BuildKit's words (its documentation, docs/attestations/slsa-provenance.md).

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	naming "github.com/distribution/reference"
	slsa "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/common"
	slsa1 "github.com/in-toto/in-toto-golang/in_toto/slsa_provenance/v1"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/llbsolver/provenance/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/skiff-containers/skiff/build/ops"
)

// Provenance is --provenance.
type Provenance struct {
	Max          bool   // with the steps, the Dockerfile and the arguments
	Version      string // v1 or v0.2; "" is v1
	Builder      string // the builder's identity, a URI
	Reproducible bool   // what the user says of it
}

// predicateTypes are those of the versions.
const (
	provenance1  = "https://slsa.dev/provenance/v1"
	provenance02 = "https://slsa.dev/provenance/v0.2"
)

// predicate describes how an image was made, and says what kind of description that is.
func (b *Built) predicate(ctx context.Context, img *Image) (any, string, error) {
	o := b.options.Provenance
	list, order, err := steps(img.definition)
	if err != nil {
		return nil, "", fmt.Errorf("cannot describe the build: %w", err)
	}
	m := materials{env: b.env}
	for _, sum := range order {
		if err := m.take(ctx, list[sum]); err != nil {
			return nil, "", fmt.Errorf("cannot describe the build: %w", err)
		}
	}
	now := time.Now().UTC()
	p := &types.ProvenancePredicateSLSA1{}
	p.BuildDefinition.BuildType, p.BuildDefinition.ResolvedDependencies = types.BuildKitBuildType1, m.list
	p.BuildDefinition.InternalParameters.BuilderPlatform = platforms.Format(platforms.Normalize(platforms.DefaultSpec()))
	p.BuildDefinition.InternalParameters.TargetPlatform = img.Platform
	p.RunDetails.Builder.ID = o.Builder
	meta := &types.ProvenanceMetadataSLSA1{Hermetic: len(m.locals) == 0 && !m.network, Reproducible: o.Reproducible}
	meta.InvocationID, meta.StartedOn, meta.FinishedOn = identity.NewID(), &b.started, &now
	meta.Completeness = types.BuildKitComplete{Request: true, ResolvedDependencies: len(m.locals) == 0}
	p.RunDetails.Metadata = meta
	b.request(p, &m)
	if o.Max {
		config, source := describe(img.definition, list, order)
		p.BuildDefinition.InternalParameters.BuildConfig, meta.BuildKitMetadata.Source = config, source
	}
	if o.Version == "v0.2" {
		return p.ConvertToSLSA02(), provenance02, nil
	}
	return p, provenance1, nil
}

// request is what the user asked for. Values of arguments and labels, secrets and agents are told with mode=max alone, and of secrets only the names.
func (b *Built) request(p *types.ProvenancePredicateSLSA1, m *materials) {
	ext := &p.BuildDefinition.ExternalParameters
	ext.Request = types.Parameters{Frontend: "dockerfile.v0", Args: maps.Clone(b.options.Frontend)}
	args := ext.Request.Args
	for _, key := range []string{"platform", "dockerfilekey"} {
		delete(args, key)
	}
	for key, value := range args {
		if key == "context" || strings.HasPrefix(key, "context:") {
			args[key] = redact(value)
		}
		if value == "" && key != "no-cache" {
			delete(args, key)
		}
	}
	ext.ConfigSource.Path = args["filename"]
	if ext.ConfigSource.Path == "" {
		ext.ConfigSource.Path = "Dockerfile"
	}
	delete(args, "filename")
	if from := args["context"]; from != "" {
		ext.ConfigSource.URI = from
		for _, d := range m.list {
			if d.URI == from || strings.HasPrefix(d.URI, from+"#") || strings.HasPrefix(from, d.URI+"#") {
				ext.ConfigSource.Digest = d.Digest
			}
		}
		delete(args, "context")
	}
	for _, name := range m.locals {
		ext.Request.Locals = append(ext.Request.Locals, &types.LocalSource{Name: name})
	}
	if b.options.Provenance.Max {
		ext.Request.Secrets, ext.Request.SSH = m.secrets, m.agents
		return
	}
	for key := range args {
		if strings.HasPrefix(key, "build-arg:") || strings.HasPrefix(key, "label:") {
			delete(args, key)
			p.RunDetails.Metadata.Completeness.Request = false
		}
	}
}

type resource = slsa1.ResourceDescriptor //nolint:staticcheck // BuildKit's provenance is made of it

// materials is what a build was made from.
type materials struct {
	env     *ops.Env
	list    []resource
	locals  []string
	secrets []*types.Secret
	agents  []*types.SSH
	network bool // a command had one
}

// add takes what is not there yet.
func (m *materials) add(uri string, sums slsa.DigestSet) {
	if !slices.ContainsFunc(m.list, func(d resource) bool { return d.URI == uri && maps.Equal(d.Digest, sums) }) {
		m.list = append(m.list, resource{URI: uri, Digest: sums})
	}
}

// take adds what one step was given.
func (m *materials) take(ctx context.Context, op *pb.Op) error {
	switch o := op.Op.(type) {
	case *pb.Op_Exec:
		m.network = m.network || o.Exec.Network != pb.NetMode_NONE
		for _, mount := range o.Exec.Mounts {
			if s := mount.SecretOpt; mount.MountType == pb.MountType_SECRET && s != nil {
				m.secret(s.ID, s.Optional)
			}
			if s := mount.SSHOpt; mount.MountType == pb.MountType_SSH && s != nil && !slices.ContainsFunc(m.agents, func(a *types.SSH) bool { return a.ID == s.ID }) {
				m.agents = append(m.agents, &types.SSH{ID: s.ID, Optional: s.Optional})
			}
		}
		for _, s := range o.Exec.Secretenv {
			m.secret(s.ID, s.Optional)
		}
	case *pb.Op_Source:
		return m.source(ctx, o.Source, op.Platform)
	}
	return nil
}

func (m *materials) secret(id string, optional bool) {
	if !slices.ContainsFunc(m.secrets, func(s *types.Secret) bool { return s.ID == id }) {
		m.secrets = append(m.secrets, &types.Secret{ID: id, Optional: optional})
	}
}

func (m *materials) source(ctx context.Context, op *pb.SourceOp, p *pb.Platform) error {
	scheme, rest, _ := strings.Cut(op.Identifier, "://")
	switch scheme {
	case "local":
		if !slices.Contains(m.locals, rest) {
			m.locals = append(m.locals, rest)
		}
	case "docker-image", "oci-layout":
		kind := "docker"
		if scheme == "oci-layout" {
			kind = "oci"
		}
		uri, sum, err := packageURL(kind, rest, p)
		if err != nil {
			return err
		}
		m.add(uri, digestSet(sum))
	case "git":
		commit, err := m.env.Commit(ctx, op)
		if err != nil {
			return err
		}
		remote := op.Attrs[pb.AttrFullRemoteURL]
		before, fragment, _ := strings.Cut(op.Identifier, "#")
		if remote == "" {
			remote = before
		}
		if fragment, _, _ = strings.Cut(fragment, ":"); fragment != "" {
			remote += "#" + fragment
		}
		kind := "sha1"
		if len(commit) == 64 {
			kind = "sha256"
		}
		m.add(redact(remote), slsa.DigestSet{kind: commit})
	case "http", "https":
		sum, err := m.env.Checksum(ctx, op)
		if err != nil {
			return err
		}
		m.add(redact(op.Identifier), digestSet(digest.Digest(sum)))
	}
	return nil
}

func digestSet(sum digest.Digest) slsa.DigestSet {
	if sum.Validate() != nil {
		return nil
	}
	return slsa.DigestSet{sum.Algorithm().String(): sum.Encoded()}
}

// redact takes the credentials out of a URL.
func redact(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return text
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}

// packageURL names an image as a package (github.com/package-url/purl-spec), as BuildKit does, and says which digest the name has.
func packageURL(kind, name string, p *pb.Platform) (string, digest.Digest, error) {
	named, err := naming.ParseNormalizedNamed(name)
	if err != nil {
		return "", "", fmt.Errorf("cannot name image %q as a package: %w", name, err)
	}
	var parts, more []string
	for _, part := range strings.Split(naming.FamiliarName(named), "/") {
		parts = append(parts, url.PathEscape(part))
	}
	text := "pkg:" + kind + "/" + strings.Join(parts, "/")
	var sum digest.Digest
	if d, ok := named.(naming.Digested); ok {
		sum = d.Digest()
		more = append(more, "digest="+sum.String())
	} else {
		named = naming.TagNameOnly(named)
	}
	if t, ok := named.(naming.Tagged); ok {
		text += "@" + url.PathEscape(t.Tag())
	}
	if p != nil {
		more = append(more, "platform="+url.QueryEscape(platforms.Format(platforms.Normalize(p.Spec()))))
	}
	if len(more) > 0 {
		text += "?" + strings.Join(more, "&")
	}
	return text, sum, nil
}
