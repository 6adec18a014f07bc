package build

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	cachetypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// exported is a small graph: a base, a command on it, and a copy of the context onto that. twice adds everything again.
func exported(t *testing.T, twice bool) (cachetypes.CacheConfig, layerTable) {
	t.Helper()
	layer := func(s string) ocispecs.Descriptor { return ocispecs.Descriptor{Digest: digest.FromString(s), Size: 1} }
	result := func(list ...ocispecs.Descriptor) []solver.CacheExportResult {
		return []solver.CacheExportResult{{CreatedAt: time.Unix(5, 0), Result: &solver.Remote{Descriptors: list}}}
	}
	c := newChains()
	add := func(name string, results []solver.CacheExportResult, deps ...[]solver.CacheLink) solver.CacheExporterRecord {
		r, ok, err := c.Add(key(name), deps, results)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", name, ok, err)
		}
		return r
	}
	rounds := 1
	if twice {
		rounds = 2
	}
	for range rounds {
		base := add("base", nil)
		content := add("content", nil)
		run := add("run", result(layer("b"), layer("r")), []solver.CacheLink{{Src: base}})
		add("copy", result(layer("b"), layer("r"), layer("c")), []solver.CacheLink{{Src: run}}, []solver.CacheLink{{Src: content, Selector: "sel"}})
	}
	if r, ok, err := c.Add("random:"+digest.Digest(key("x").Encoded()), nil, nil); r != nil || ok || err != nil {
		t.Errorf("a random key is exported: %v %v %v", r, ok, err)
	}
	if _, _, err := c.Add(key("orphan"), [][]solver.CacheLink{{}}, nil); err == nil {
		t.Error("a record without its input is exported")
	}
	var table layerTable
	config := c.marshal(&table, nil)
	return config, table
}

// key is a record's digest: that of an operation, with the number of its output.
func key(name string) digest.Digest {
	return digest.FromString(digest.FromString(name).String() + "@0")
}

func TestChains(t *testing.T) {
	config, table := exported(t, false)
	again, _ := exported(t, true)
	one, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(again)
	if err != nil || string(one) != string(two) {
		t.Errorf("what is added twice is there twice: %v\n%s\n%s", err, one, two)
	}
	if len(config.Layers) != 3 || len(config.Records) != 4 || len(table.blobs) != 3 {
		t.Fatalf("got %s", one)
	}
	layers := map[digest.Digest]ocispecs.Descriptor{}
	for _, d := range table.blobs {
		layers[d.Digest] = d
	}
	s, err := readChains(config, layers)
	if err != nil {
		t.Fatal(err)
	}
	// As the solver asks: from the roots, by digest and output, to the results.
	find := func(id, name string, input solver.Index, selector digest.Digest) string {
		t.Helper()
		var found []string
		link := solver.CacheInfoLink{Input: input, Digest: digest.FromString(name), Selector: selector}
		if err := s.WalkLinks(id, link, func(to string) error { found = append(found, to); return nil }); err != nil || len(found) != 1 {
			t.Fatalf("%s: found %v, %v", name, found, err)
		}
		if !s.HasLink(id, link, found[0]) || !s.Exists(found[0]) {
			t.Errorf("%s: the link is not there", name)
		}
		return found[0]
	}
	run := find(key("base").String(), "run", 0, "")
	end := find(run, "copy", 0, "")
	if other := find(key("content").String(), "copy", 1, "sel"); other != end {
		t.Errorf("two ways lead to %s and %s", end, other)
	}
	var got []solver.CacheResult
	if err := s.WalkResults(end, func(r solver.CacheResult) error { got = append(got, r); return nil }); err != nil || len(got) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	want := []ocispecs.Descriptor{layers[digest.FromString("b")], layers[digest.FromString("r")], layers[digest.FromString("c")]}
	if list := s.remotes[got[0].ID]; !slices.EqualFunc(list, want, func(a, b ocispecs.Descriptor) bool { return a.Digest == b.Digest }) || got[0].CreatedAt.Unix() != 5 {
		t.Errorf("got %v, want %v", list, want)
	}
	// A blob that is missing takes its results along.
	delete(layers, digest.FromString("c"))
	if s, err = readChains(config, layers); err != nil || len(s.results[end]) != 0 || len(s.results[run]) != 1 {
		t.Errorf("got %v, %v", s.results, err)
	}
}

func TestDamagedChains(t *testing.T) {
	sum := digest.FromString("x")
	in := func(i int) [][]cachetypes.CacheInput { return [][]cachetypes.CacheInput{{{LinkIndex: i}}} }
	tests := map[string]cachetypes.CacheConfig{
		"itself":    {Records: []cachetypes.CacheRecord{{Digest: sum, Inputs: in(0)}}},
		"loop":      {Records: []cachetypes.CacheRecord{{Digest: sum, Inputs: in(1)}, {Digest: sum, Inputs: in(0)}}},
		"beyond":    {Records: []cachetypes.CacheRecord{{Digest: sum, Inputs: in(7)}}},
		"negative":  {Records: []cachetypes.CacheRecord{{Digest: sum, Inputs: in(-1)}}},
		"no digest": {Records: []cachetypes.CacheRecord{{Digest: "sha256:../../etc"}}},
		"layer":     {Records: []cachetypes.CacheRecord{{Digest: sum, Results: []cachetypes.CacheResult{{LayerIndex: 1}}}}},
		"chain":     {Records: []cachetypes.CacheRecord{{Digest: sum, ChainedResults: []cachetypes.ChainedResult{{LayerIndexes: []int{-5}}}}}},
		"layer loop": {
			Layers:  []cachetypes.CacheLayer{{Blob: sum, ParentIndex: 1}, {Blob: sum, ParentIndex: 0}},
			Records: []cachetypes.CacheRecord{{Digest: sum, Results: []cachetypes.CacheResult{{LayerIndex: 0}}}},
		},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := readChains(config, nil); !errors.Is(err, errDescription) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzReadChains(f *testing.F) {
	f.Add(`{"layers":[{"blob":"sha256:aa","parent":-1}],"records":[{"digest":"sha256:aa","layers":[{"layer":0}]}]}`)
	f.Fuzz(func(_ *testing.T, text string) {
		var config cachetypes.CacheConfig
		if json.Unmarshal([]byte(text), &config) == nil {
			_, _ = readChains(config, map[digest.Digest]ocispecs.Descriptor{}) // an error or none, in time
		}
	})
}
