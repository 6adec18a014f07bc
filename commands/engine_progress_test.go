//go:build !front

package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/pull"
)

func TestJournal(t *testing.T) {
	begin := pull.Event{Kind: pull.Begin, Name: "x:1"}
	start := pull.Event{Kind: pull.Start, Blob: "sha256:a", Total: 2000}
	for name, c := range map[string]struct {
		events []pull.Event
		want   string // "|" between lines
	}{
		"nothing came of it": {events: []pull.Event{begin, start}},
		"one layer": {
			events: []pull.Event{begin, start, {Kind: pull.Finish, Blob: "sha256:a", Total: 2000}, {Kind: pull.End}},
			want:   "Pulled x:1: 1 of 1 parts, 2kB",
		},
		"there already": {
			events: []pull.Event{begin, {Kind: pull.Skip, Blob: "sha256:b", Total: 9}, {Kind: pull.Finish, Blob: "sha256:a", Total: -1}, {Kind: pull.End}},
			want:   "Pulled x:1: 1 of 2 parts, 0B, 1 already there",
		},
		"slow": {
			events: []pull.Event{begin, start, pause, {Kind: pull.Advance, Blob: "sha256:a", Total: 2000, Done: 1000}, {Kind: pull.Advance, Blob: "sha256:a", Done: 1500}},
			want:   "Pulling x:1: 1kB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			now := time.Unix(0, 0)
			l := &journal{verb: forms{"Pulling", "Pulled"}, out: &out, now: func() time.Time { return now }}
			for _, e := range c.events {
				if e == pause {
					now = now.Add(4 * time.Second)
					continue
				}
				l.tell(e)
			}
			if got := strings.ReplaceAll(strings.TrimSpace(out.String()), "\n", "|"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// pause is four seconds.
var pause = pull.Event{Kind: -1}
