package snap

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is kept of digests is read again; of a damaged file what comes before the damage, and never a wrong one.
func TestSums(t *testing.T) {
	d := &Draft{dir: t.TempDir()}
	sums := map[string]string{"a": strings.Repeat("0a", 32), "a/b c\n": strings.Repeat("f1", 32), strings.Repeat("x", 300): strings.Repeat("00", 32)}
	if err := d.SetSums(sums); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir, sumsFile)
	if got := readSums(path); !maps.Equal(got, sums) {
		t.Errorf("%q, want %q", got, sums)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		for name, sum := range readSums(path) {
			if sums[name] != sum {
				t.Errorf("of %d bytes: %q is %q", n, name, sum)
			}
		}
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("\xff", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := readSums(path); len(got) > 0 {
		t.Errorf("of nonsense: %q", got)
	}
	if err := d.SetSums(map[string]string{"a": "short"}); err == nil {
		t.Error("a digest that is none was kept")
	}
	if got := readSums(filepath.Join(d.dir, "none")); len(got) > 0 {
		t.Errorf("of nothing: %q", got)
	}
}

// A place is another one when anything below it, or what is done there, is another.
func TestPlace(t *testing.T) {
	base := Tree{{ID: "a", Dir: "/a"}, {ID: "b", Dir: "/b"}}
	seen := map[string]bool{}
	for _, name := range []string{
		Place(base, "copy"), Place(base, "copy 2"), Place(base[:1], "copy"), Place(nil, "copy"), Place(Tree{base[1], base[0]}, "copy"), Place(Tree{base[0], {ID: "b", Dir: "/c"}}, "copy"),
	} {
		if seen[name] {
			t.Errorf("%s is two places", name)
		}
		seen[name] = true
	}
	if Place(base, "copy") != Place(append(Tree{}, base...), "copy") {
		t.Error("one place has two names")
	}
}
