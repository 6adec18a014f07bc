package build

// This file remembers the end of what each step says, for builds whose progress nobody sees: a step that fails shows it.

import (
	"bytes"
	"container/ring"
	"context"
	"fmt"
	"io"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// tailLines is how many lines of a step are shown: as many as BuildKit's progress shows again.
const tailLines = 10

// tails are the last lines of steps, and which of these failed. One goroutine adds to them; when it has ended they are printed.
type tails struct {
	steps  map[digest.Digest]*tail
	failed []*bkclient.Vertex
}

type tail struct {
	lines *ring.Ring // of []byte
	part  []byte     // of a line that has not ended
}

// add takes one report of the progress.
func (t *tails) add(s *bkclient.SolveStatus) {
	for _, v := range s.Vertexes {
		if v.Error != "" && !strings.HasSuffix(v.Error, context.Canceled.Error()) {
			t.failed = append(t.failed, v)
		}
	}
	for _, l := range s.Logs {
		step := t.steps[l.Vertex]
		if step == nil {
			step = &tail{lines: ring.New(tailLines)}
			t.steps[l.Vertex] = step
		}
		data := append(step.part, l.Data...)
		for {
			line, rest, ended := bytes.Cut(data, []byte("\n"))
			if !ended {
				break
			}
			step.lines.Value, step.lines, data = bytes.Clone(line), step.lines.Next(), rest
		}
		step.part = bytes.Clone(data)
	}
}

// print shows the lines of the steps that failed, in BuildKit's look. One that said nothing has nothing to show.
func (t *tails) print(w io.Writer) {
	for _, v := range t.failed {
		if step := t.steps[v.Digest]; step != nil {
			step.print(w, v.Name)
		}
	}
}

func (step *tail) print(w io.Writer, name string) {
	fmt.Fprintf(w, "------\n > %s:\n", name)
	step.lines.Do(func(line any) {
		if text, ok := line.([]byte); ok {
			fmt.Fprintf(w, "%s\n", text)
		}
	})
	if len(step.part) > 0 {
		fmt.Fprintf(w, "%s\n", step.part)
	}
	fmt.Fprintln(w, "------")
}
