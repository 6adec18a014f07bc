package build

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/build/snap"
)

func TestPick(t *testing.T) {
	now := time.Now()
	hours := func(n int) time.Time { return now.Add(-time.Duration(n) * time.Hour) }
	list := []snap.Usage{ // the latest first, as Usage lists them
		{ID: "new", Kind: "step", Size: 10, Used: hours(1)},
		{ID: "mount", Kind: "cache mount", Size: 100, Used: hours(2)},
		{ID: "top", Kind: "step", Size: 20, Used: hours(3), Parents: []string{"base"}},
		{ID: "base", Kind: "step", Size: 30, Used: hours(3)},
		{ID: "old", Kind: "step", Size: 40, Used: hours(9)},
	}
	tests := []struct {
		name string
		o    PruneOptions
		free int64
		want string
	}{
		{"all steps", PruneOptions{}, 0, "new top base old"},
		{"all", PruneOptions{All: true}, 0, "new mount top base old"},
		{"age", PruneOptions{All: true, Age: 150 * time.Minute}, 0, "top base old"},
		{"max", PruneOptions{Max: 170}, 0, "old"},
		{"max takes what lies on it", PruneOptions{Max: 159}, 0, "top base old"},
		{"max is kept", PruneOptions{Max: 200}, 0, ""},
		{"reserved", PruneOptions{Reserved: 155}, 0, "top base old"},
		{"reserved over max", PruneOptions{Max: 1, Reserved: 199}, 0, "old"},
		{"free enough", PruneOptions{Free: 50}, 60, ""},
		{"free wanted", PruneOptions{Free: 50}, 20, "old"},
		{"free and reserved", PruneOptions{Free: 500, Reserved: 170}, 20, "old"},
		{"max and age", PruneOptions{Max: 1, Age: 5 * time.Hour}, 0, "old"},
		{"max and mounts", PruneOptions{Max: 20, All: true}, 0, "mount top base old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pick := tt.o.pick(list, tt.free)
			var got []string
			for _, u := range list {
				if pick(u) {
					got = append(got, u.ID)
				}
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

func TestCompacted(t *testing.T) {
	link := func(from, to string) string {
		return fmt.Sprintf(`{"id":%q,"link":{"Digest":"sha256:%s"},"target":%q}`, from, to, to)
	}
	result := func(id, res string) string {
		return fmt.Sprintf(`{"id":%q,"result":{"CreatedAt":"2020-01-01T00:00:00Z","ID":%q}}`, id, res)
	}
	tests := []struct {
		name       string
		have, want []string
	}{
		{"kept", []string{link("a", "b"), link("b", "c"), result("c", "here")}, []string{link("a", "b"), link("b", "c"), result("c", "here")}},
		{"twice", []string{link("a", "b"), link("a", "b"), result("b", "here"), result("b", "here")}, []string{link("a", "b"), result("b", "here")}},
		{"leads nowhere", []string{link("a", "b"), link("b", "c"), result("b", "here")}, []string{link("a", "b"), result("b", "here")}},
		{"gone from the disk", []string{link("a", "b"), result("b", "lost")}, nil},
		{"let go", []string{link("a", "b"), result("b", "here"), `{"gone":"here"}`}, nil},
		{"let go and made again", []string{result("b", "here"), `{"gone":"here"}`, link("a", "b"), result("b", "here")}, []string{result("b", "here"), link("a", "b")}},
		{"a ring", []string{link("a", "b"), link("b", "a"), result("a", "here")}, []string{link("a", "b"), link("b", "a"), result("a", "here")}},
		{"cut", []string{link("a", "b"), `{"id":"a","li`, result("b", "here")}, []string{link("a", "b"), result("b", "here")}},
		{"size", []string{`{"size":99}`, result("b", "here")}, []string{result("b", "here")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			there := func(key string) bool { return key == "here" }
			got := strings.TrimSpace(string(compacted([]byte(strings.Join(tt.have, "\n")), there)))
			if want := strings.Join(tt.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if again := strings.TrimSpace(string(compacted([]byte(got), there))); again != got {
				t.Errorf("compacted again it is\n%s", again)
			}
		})
	}
}

func FuzzCompacted(f *testing.F) {
	f.Add("{\"id\":\"a\",\"link\":{},\"target\":\"b\"}\n{\"gone\":\"x\"}\n{\"id\":\"b\",\"result\":{\"ID\":\"x\"}}")
	f.Fuzz(func(t *testing.T, text string) {
		all := func(string) bool { return true }
		once := compacted([]byte(text), all)
		if twice := compacted(once, all); string(twice) != string(once) {
			t.Errorf("%q becomes %q", once, twice)
		}
	})
}
