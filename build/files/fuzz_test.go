package files

import (
	"bytes"
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Whatever a .dockerignore says, walking down a tree hides what its patterns mean for the whole path.
func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*\n!d/e", "**/*.go\n!a.go\n# x\n\\#y", "a/**/b", "[a-", "!", "../x\n/y/", "a\\", "\xef\xbb\xbfa", "d/e\n\\\xff"} {
		f.Add([]byte(s), "d/e/f.go")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		if name = path.Clean("/" + name)[1:]; name == "" || strings.ContainsRune(name, 0) {
			return
		}
		patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
		if err != nil || len(patterns) == 0 {
			return
		}
		ours, err := newFilter(patterns)
		pm, other := patternmatcher.New(patterns)
		if (err == nil) != (other == nil) {
			t.Fatalf("%q: %v, %v", patterns, err, other)
		}
		if err != nil {
			return
		}
		if exceptsParent(t, patterns, name) {
			return
		}
		hidden, err := ours.hides(name)
		want, other := pm.MatchesOrParentMatches(name)
		// Patterns that are no UTF-8 are found out by whichever of the library's ways comes to them first.
		if err == nil && other == nil && hidden != want {
			t.Fatalf("%q of %q: %v %v, want %v %v", name, patterns, hidden, err, want, other)
		}
	})
}

// exceptsParent says whether an exception names a directory that holds the path. What a pattern before it hides below stays hidden in BuildKit, whose way ours is; the library's other way says that it does not.
func exceptsParent(t *testing.T, patterns []string, name string) bool {
	for _, p := range patterns {
		rest, ok := strings.CutPrefix(strings.TrimSpace(p), "!")
		if !ok {
			continue
		}
		if strings.HasPrefix(rest, "!") {
			return true // alone it would be an exception itself
		}
		pm, err := patternmatcher.New([]string{rest})
		if err != nil {
			t.Fatalf("%q: %v", patterns, err)
		}
		if found, err := pm.MatchesOrParentMatches(path.Dir(name)); err != nil || found {
			return true
		}
	}
	return false
}
