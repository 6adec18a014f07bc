package build

// This file reads a cache description: a solver.CacheKeyStorage of what somebody exported, which nothing is ever added to.

import (
	"errors"
	"fmt"
	"slices"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// errDescription is a cache description that says what cannot be.
var errDescription = errors.New("the cache description is damaged")

// chainStore is a solver.CacheKeyStorage of an imported description.
type chainStore struct {
	results map[string][]solver.CacheResult
	remotes map[string][]ocispecs.Descriptor // by result
	links   map[string]map[chainStoreLink][]string
	ids     map[string][]string // records, by result
}

type chainStoreLink struct {
	input    solver.Index
	selector digest.Digest
	digest   digest.Digest
}

// readChains makes a store of a description; layers are the descriptors of its blobs. What is missing of those is left out.
func readChains(config cachetypes.CacheConfig, layers map[digest.Digest]ocispecs.Descriptor) (*chainStore, error) {
	s := &chainStore{
		results: map[string][]solver.CacheResult{}, remotes: map[string][]ocispecs.Descriptor{}, links: map[string]map[chainStoreLink][]string{}, ids: map[string][]string{},
	}
	names := make([]string, len(config.Records))
	open := make([]bool, len(config.Records))
	var name func(i int) (string, error)
	name = func(i int) (string, error) {
		if i < 0 || i >= len(names) || open[i] {
			return "", errDescription
		}
		if names[i] != "" {
			return names[i], nil
		}
		open[i] = true
		defer func() { open[i] = false }()
		r := &config.Records[i]
		if err := r.Digest.Validate(); err != nil {
			return "", fmt.Errorf("%w: %w", errDescription, err)
		}
		names[i] = r.Digest.String()
		if len(r.Inputs) == 0 {
			return names[i], nil
		}
		names[i] = ""
		var inputs [][]string
		for _, input := range r.Inputs {
			var words []string
			for _, in := range input {
				from, err := name(in.LinkIndex)
				if err != nil {
					return "", err
				}
				words = append(words, from+" "+in.Selector)
			}
			slices.Sort(words)
			inputs = append(inputs, words)
		}
		names[i] = recordID(r.Digest, inputs)
		return names[i], nil
	}
	for i := range config.Records {
		id, err := name(i)
		if err != nil {
			return nil, err
		}
		if err := s.add(id, &config.Records[i], names, config.Layers, layers); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add takes one record.
func (s *chainStore) add(id string, r *cachetypes.CacheRecord, names []string, table []cachetypes.CacheLayer, layers map[digest.Digest]ocispecs.Descriptor) error {
	if s.links[id] == nil {
		s.links[id] = map[chainStoreLink][]string{}
	}
	for i, input := range r.Inputs {
		for _, in := range input {
			from := names[in.LinkIndex]
			if s.links[from] == nil {
				s.links[from] = map[chainStoreLink][]string{}
			}
			l := chainStoreLink{solver.Index(i), digest.Digest(in.Selector), r.Digest}
			s.links[from][l] = append(s.links[from][l], id)
		}
	}
	for _, res := range r.Results {
		list, err := layerChain(table, res.LayerIndex, layers)
		if err != nil {
			return err
		}
		s.result(id, list, solver.CacheResult{CreatedAt: res.CreatedAt})
	}
	for _, res := range r.ChainedResults {
		var list []ocispecs.Descriptor
		for _, i := range res.LayerIndexes {
			if i < 0 || i >= len(table) {
				return errDescription
			}
			list = append(list, layers[table[i].Blob])
		}
		s.result(id, list, solver.CacheResult{CreatedAt: res.CreatedAt})
	}
	return nil
}

// result takes one result, unless one of its layers is not there.
func (s *chainStore) result(id string, list []ocispecs.Descriptor, res solver.CacheResult) {
	var all []byte
	for _, d := range list {
		if d.Digest == "" {
			return
		}
		all = append(all, d.Digest...)
	}
	if len(list) == 0 {
		return
	}
	res.ID = digest.FromBytes(all).String()
	s.remotes[res.ID] = list
	s.results[id] = append(s.results[id], res)
	s.ids[res.ID] = append(s.ids[res.ID], id)
}

// layerChain is a layer with all that it lies on, lowest first.
func layerChain(table []cachetypes.CacheLayer, top int, layers map[digest.Digest]ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
	var list []ocispecs.Descriptor
	for i := top; i != -1; i = table[i].ParentIndex {
		if i < 0 || i >= len(table) || len(list) > len(table) {
			return nil, errDescription
		}
		list = append(list, layers[table[i].Blob])
	}
	slices.Reverse(list)
	return list, nil
}

// Exists implements solver.CacheKeyStorage.
func (s *chainStore) Exists(id string) bool { return s.links[id] != nil }

// Walk implements solver.CacheKeyStorage.
func (s *chainStore) Walk(fn func(string) error) error {
	for id := range s.links {
		if err := fn(id); err != nil {
			return err
		}
	}
	return nil
}

// WalkResults implements solver.CacheKeyStorage.
func (s *chainStore) WalkResults(id string, fn func(solver.CacheResult) error) error {
	for _, r := range s.results[id] {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Load implements solver.CacheKeyStorage.
func (s *chainStore) Load(id, result string) (solver.CacheResult, error) {
	for _, r := range s.results[id] {
		if r.ID == result {
			return r, nil
		}
	}
	return solver.CacheResult{}, solver.ErrNotFound
}

// AddResult, AddLink and Release implement solver.CacheKeyStorage: what was imported stays as it is.
func (s *chainStore) AddResult(string, solver.CacheResult) error         { return nil }
func (s *chainStore) AddLink(string, solver.CacheInfoLink, string) error { return nil }
func (s *chainStore) Release(string) error                               { return nil }
func (s *chainStore) at(id string, l solver.CacheInfoLink) []string {
	// The description has the digest of a record together with the number of its output.
	return s.links[id][chainStoreLink{l.Input, l.Selector, digest.FromString(fmt.Sprintf("%s@%d", l.Digest, l.Output))}]
}

// WalkLinks implements solver.CacheKeyStorage.
func (s *chainStore) WalkLinks(id string, link solver.CacheInfoLink, fn func(string) error) error {
	for _, to := range s.at(id, link) {
		if err := fn(to); err != nil {
			return err
		}
	}
	return nil
}

// HasLink implements solver.CacheKeyStorage.
func (s *chainStore) HasLink(id string, link solver.CacheInfoLink, target string) bool {
	return slices.Contains(s.at(id, link), target)
}

// from walks the links of one record.
func (s *chainStore) from(id string, fn func(string, solver.CacheInfoLink) error) error {
	for l, list := range s.links[id] {
		for _, to := range list {
			if err := fn(to, solver.CacheInfoLink{Input: l.input, Selector: l.selector, Digest: l.digest}); err != nil {
				return err
			}
		}
	}
	return nil
}

// WalkBacklinks implements solver.CacheKeyStorage.
func (s *chainStore) WalkBacklinks(id string, fn func(string, solver.CacheInfoLink) error) error {
	for from := range s.links {
		err := s.from(from, func(to string, l solver.CacheInfoLink) error {
			if to != id {
				return nil
			}
			return fn(from, l)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WalkIDsByResult implements solver.CacheKeyStorage.
func (s *chainStore) WalkIDsByResult(result string, fn func(string) error) error {
	for _, id := range s.ids[result] {
		if err := fn(id); err != nil {
			return err
		}
	}
	return nil
}
