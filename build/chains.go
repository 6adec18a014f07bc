package build

// This file collects cache keys for an export and writes them down in BuildKit's format (moby/buildkit, cache/remotecache/v1/types), so that its builders read
// what we export, and we what they do. BuildKit's own code for it is tied to its worker and snapshots; the format and the rules are its.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// chains is a solver.CacheExporterTarget: records of cache keys, linked by what they are made from.
type chains struct {
	roots map[digest.Digest]*chain
	all   []*chain
}

// chain is one record.
type chain struct {
	solver.CacheExporterRecordBase
	digest   digest.Digest
	parents  []map[chainLink]bool // by input
	children map[childLink][]*chain
	results  []solver.CacheExportResult
	id       string
}

// chainLink is a parent and what is taken from it; childLink is how a child is found.
type chainLink struct {
	from     *chain
	selector string
}

type childLink struct {
	input    int
	selector string
	digest   digest.Digest
}

func newChains() *chains { return &chains{roots: map[digest.Digest]*chain{}} }

// Add implements solver.CacheExporterTarget. A record that is there, with one of the same inputs at each place, gets the new inputs and results as well.
func (c *chains) Add(sum digest.Digest, deps [][]solver.CacheLink, results []solver.CacheExportResult) (solver.CacheExporterRecord, bool, error) {
	if strings.HasPrefix(sum.String(), "random:") {
		return nil, false, nil // never found again
	}
	links := make([][]chainLink, len(deps))
	for i, dep := range deps {
		for _, d := range dep {
			if from, ok := d.Src.(*chain); ok {
				links[i] = append(links[i], chainLink{from, d.Selector})
			}
		}
		if len(links[i]) == 0 {
			return nil, false, fmt.Errorf("cannot export the cache: a record has no input %d", i)
		}
	}
	r := c.find(sum, links)
	if r == nil {
		r = &chain{digest: sum, parents: make([]map[chainLink]bool, len(links)), children: map[childLink][]*chain{}}
		for i := range r.parents {
			r.parents[i] = map[chainLink]bool{}
		}
		c.all = append(c.all, r)
		if len(links) == 0 {
			c.roots[sum] = r
		}
	}
	r.results = append(r.results, results...)
	below := map[*chain]bool{}
	r.descend(below)
	for i, list := range links {
		for _, l := range list {
			if below[l.from] || r.parents[i][l] {
				continue // known, or it would be made from itself
			}
			r.parents[i][l] = true
			key := childLink{i, l.selector, sum}
			l.from.children[key] = append(l.from.children[key], r)
		}
	}
	return r, true, nil
}

// find is the record of a digest that has one of the links at each input.
func (c *chains) find(sum digest.Digest, links [][]chainLink) *chain {
	if len(links) == 0 {
		return c.roots[sum]
	}
	var found []*chain
	for i, list := range links {
		var here []*chain
		for _, l := range list {
			here = append(here, l.from.children[childLink{i, l.selector, sum}]...)
		}
		if i > 0 {
			here = slices.DeleteFunc(here, func(r *chain) bool { return !slices.Contains(found, r) })
		}
		found = here
	}
	if len(found) == 0 {
		return nil
	}
	return found[0]
}

// descend marks a record and all that are made from it.
func (r *chain) descend(seen map[*chain]bool) {
	if seen[r] {
		return
	}
	seen[r] = true
	for _, list := range r.children {
		for _, child := range list {
			child.descend(seen)
		}
	}
}

// identity names a record by its digest and its inputs: the same in every export.
func (r *chain) identity() string {
	if r.id == "" {
		r.id = r.digest.String()
		if len(r.parents) > 0 {
			var inputs [][]string
			for _, m := range r.parents {
				var words []string
				for l := range m {
					words = append(words, l.from.identity()+" "+l.selector)
				}
				slices.Sort(words)
				inputs = append(inputs, words)
			}
			r.id = recordID(r.digest, inputs)
		}
	}
	return r.id
}

// recordID is the identity of a record with inputs, each of them its parents' identities and selectors in order.
func recordID(sum digest.Digest, inputs [][]string) string {
	return digest.FromString(fmt.Sprintf("%s %q", sum, inputs)).String()
}

// marshal writes the records down. keep chooses among the results, and says which layer of the description a result ends in; nil keeps all.
func (c *chains) marshal(layers *layerTable, keep func(*solver.Remote) bool) cachetypes.CacheConfig {
	slices.SortFunc(c.all, func(a, b *chain) int { return cmp.Compare(a.identity(), b.identity()) })
	index := map[*chain]int{}
	for i, r := range c.all {
		index[r] = i
	}
	var config cachetypes.CacheConfig
	for _, r := range c.all {
		record := cachetypes.CacheRecord{Digest: r.digest, Inputs: make([][]cachetypes.CacheInput, len(r.parents))}
		for i, m := range r.parents {
			for l := range m {
				record.Inputs[i] = append(record.Inputs[i], cachetypes.CacheInput{Selector: l.selector, LinkIndex: index[l.from]})
			}
			slices.SortFunc(record.Inputs[i], func(a, b cachetypes.CacheInput) int {
				return cmp.Or(cmp.Compare(a.LinkIndex, b.LinkIndex), cmp.Compare(a.Selector, b.Selector))
			})
		}
		best := slices.MinFunc(append([]solver.CacheExportResult{{}}, r.results...), latest)
		if best.Result != nil && len(best.Result.Descriptors) > 0 && (keep == nil || keep(best.Result)) {
			record.Results = []cachetypes.CacheResult{{LayerIndex: layers.add(best.Result.Descriptors), CreatedAt: best.CreatedAt}}
		}
		config.Records = append(config.Records, record)
	}
	config.Layers = layers.list
	return config
}

// latest orders results: the last one made first, none last.
func latest(a, b solver.CacheExportResult) int {
	if (a.Result == nil) != (b.Result == nil) {
		if a.Result == nil {
			return 1
		}
		return -1
	}
	return b.CreatedAt.Compare(a.CreatedAt)
}

// layerTable is the layers of a description, each with the one it lies on.
type layerTable struct {
	list  []cachetypes.CacheLayer
	known map[string]int
	blobs []ocispecs.Descriptor // each once
}

// add lists the layers of a chain and returns the index of its top.
func (t *layerTable) add(descriptors []ocispecs.Descriptor) int {
	if t.known == nil {
		t.known = map[string]int{}
	}
	parent, path := -1, ""
	for _, d := range descriptors {
		path += d.Digest.String()
		at, ok := t.known[path]
		if !ok {
			at = len(t.list)
			t.known[path] = at
			t.list = append(t.list, cachetypes.CacheLayer{Blob: d.Digest, ParentIndex: parent})
			if !slices.ContainsFunc(t.blobs, func(b ocispecs.Descriptor) bool { return b.Digest == d.Digest }) {
				t.blobs = append(t.blobs, d)
			}
		}
		parent = at
	}
	return parent
}
