package ref

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, tt := range []struct{ in, full, familiar string }{
		{"debian", "docker.io/library/debian:latest", "debian:latest"},
		{"debian:12", "docker.io/library/debian:12", "debian:12"},
		{"a/b", "docker.io/a/b:latest", "a/b:latest"},
		{"docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"localhost:5000/x/y:1", "localhost:5000/x/y:1", "localhost:5000/x/y:1"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"debian@" + digest, "docker.io/library/debian@" + digest, "debian@" + digest},
		{"q.io/a_b__c--d/e.f:T_1@" + digest, "q.io/a_b__c--d/e.f:T_1@" + digest, "q.io/a_b__c--d/e.f:T_1@" + digest},
	} {
		r, err := Parse(tt.in)
		if err != nil || r.String() != tt.full || r.Familiar() != tt.familiar {
			t.Errorf("%q: got %q, %q, %v", tt.in, r, r.Familiar(), err)
		}
	}
	for _, in := range []string{
		"", ":", "a:", "/a", "a/", "a//b", "Debian", "UPPER/case", "a b", "a:b c", "a@sha256:1", "a@md5:" + strings.Repeat("a", 32), "-a", "a-", "a..b", "a___b",
		"x:/y", "../x", strings.Repeat("a", 64), "a:" + strings.Repeat("t", 129), strings.Repeat("a/", 200) + "b", "-x.y/z", "a\x00",
	} {
		if r, err := Parse(in); err == nil {
			t.Errorf("%q was accepted as %q", in, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"debian", "localhost:5000/x:1", "a@sha256:" + strings.Repeat("0", 64), "[::1]:1/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q -> %q -> %q, %v", s, r, again, err)
		}
	})
}
