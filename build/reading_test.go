package build

import (
	"bytes"
	"strings"
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

func TestBuiltIn(t *testing.T) {
	for image, want := range map[string]bool{
		"docker/dockerfile":                                   true,
		"docker/dockerfile:1":                                 true,
		"docker.io/docker/dockerfile:1.7":                     true,
		"docker/dockerfile:1-labs":                            true,
		"docker/dockerfile-upstream:master":                   true,
		"docker/dockerfile@sha256:" + strings.Repeat("0", 64): true,
		"example.com/docker/dockerfile:1":                     false,
		"r2d4/llb:test":                                       false,
		"dockerfiles":                                         false,
	} {
		if got := builtIn(image); got != want {
			t.Errorf("%s: %v, want %v", image, got, want)
		}
	}
}

func TestTails(t *testing.T) {
	last := &tails{steps: map[digest.Digest]*tail{}}
	say := func(step digest.Digest, text string) {
		last.add(&bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Vertex: step, Data: []byte(text)}}})
	}
	say("a", strings.Repeat("x\n", 20)+"one\ntw")
	say("b", "of another\n")
	say("a", "o\nthr")
	say("a", "ee")
	last.add(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{
		{Digest: "a", Name: "RUN a", Error: "exit code: 1"}, {Digest: "b", Name: "RUN b", Error: "context canceled"}, {Digest: "c", Name: "RUN c", Error: "no word"},
	}})
	var b bytes.Buffer
	last.print(&b)
	if want := "------\n > RUN a:\n" + strings.Repeat("x\n", 8) + "one\ntwo\nthree\n------\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
