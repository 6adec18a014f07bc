//go:build !front

package commands

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseCache(t *testing.T) {
	tests := []struct{ text, from, to string }{ // an error begins with !
		{"example.com/a:b", "{example.com/a:b   }", "{example.com/a:b   false false false}"},
		{"type=registry,ref=a/b", "{a/b   }", "{a/b   false false false}"},
		{"type=local,src=d,tag=t", "{ d t }", `!"src"`},
		{"type=local,dest=d,tag=t,mode=max,ignore-error=true", `!"dest"`, "{ d t false true true}"},
		{"type=inline", "!type=registry", "{   true false false}"},
		{"type=inline,mode=max", `!"mode"`, "!mode=max"},
		{"type=registry", "!needs ref", "!needs ref"},
		{"type=local", "!needs src", "!needs dest"},
		{"type=local,ref=a", "!needs src", "!needs dest"},
		{"type=gha", "!gha", "!gha"},
		{"type=what", `!"what"`, `!"what"`},
		{"ref=a", "!no type", "!no type"},
		{"type=registry,ref=A B", "!A B", "!A B"},
		{"type=registry,ref=a,mode=most", `!"mode"`, `!"most"`},
		{"type=registry,ref=a,image-manifest=false", `!"image-manifest"`, "!image-manifest=false"},
		{"type=registry,ref=a,compression=zstd", `!"compression"`, `!"zstd"`},
		{"type=registry,ref=a,ignore-error=perhaps", `!"ignore-error"`, "!perhaps"},
		{"type=registry,ref", `!"ref"`, `!"ref"`},
	}
	check := func(t *testing.T, got any, err error, want string) {
		t.Helper()
		if text, wrong := strings.CutPrefix(want, "!"); wrong {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want an error with %q", err, text)
			}
		} else if fmt.Sprint(got) != want || err != nil {
			t.Errorf("got %v, %v; want %s", got, err, want)
		}
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			from, err := parseCacheFrom(tt.text)
			check(t, from, err, tt.from)
			to, err := parseCacheTo(tt.text)
			check(t, to, err, tt.to)
		})
	}
}
