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
		hidden, err := ours.hides(name)
		want, other := pm.MatchesOrParentMatches(name)
		// Patterns that are no UTF-8 are found out by whichever of the library's ways comes to them first.
		if err == nil && other == nil && hidden != want {
			t.Fatalf("%q of %q: %v %v, want %v %v", name, patterns, hidden, err, want, other)
		}
	})
}
