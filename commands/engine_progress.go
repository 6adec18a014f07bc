//go:build !front

package commands

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/skiff-containers/skiff/pull"
)

// progress shows events on standard error: bars on a terminal; elsewhere a line when an image is done, and before that one now and then
// when it takes long; nothing when quiet. What fails at once leaves nothing but its error.
func progress(w *os.File, verb forms, quiet bool) (tell func(pull.Event), end func()) {
	switch {
	case quiet:
		return nil, func() {}
	case isTerminal(w) && os.Getenv("TERM") != "dumb" && wide(w):
		b := &bars{doing: verb.doing, out: w, byBlob: map[string]*mpb.Bar{}}
		return b.tell, b.end
	}
	l := &journal{verb: verb, out: w, now: time.Now}
	return l.tell, func() {}
}

// forms are a verb's two forms in progress: Pulling, Pulled.
type forms struct{ doing, done string }

// journal tells of an image for a log.
type journal struct {
	verb          forms
	out           io.Writer
	now           func() time.Time
	name          string
	next          time.Time // of a sign of life
	blobs         map[string]pull.Event
	finished, had int
}

func (l *journal) tell(e pull.Event) {
	switch e.Kind {
	case pull.Begin:
		*l = journal{verb: l.verb, out: l.out, now: l.now, name: e.Name, next: l.now().Add(3 * time.Second), blobs: map[string]pull.Event{}}
	case pull.Start, pull.Advance:
		l.blobs[e.Blob] = e
	case pull.Finish:
		l.finished++
		e.Done = max(e.Total, l.blobs[e.Blob].Done)
		l.blobs[e.Blob] = e
	case pull.Skip:
		l.had++
		delete(l.blobs, e.Blob)
	case pull.End:
		there := ""
		if l.had > 0 {
			there = fmt.Sprintf(", %d already there", l.had)
		}
		fmt.Fprintf(l.out, "%s %s: %d of %d parts, %s%s\n", l.verb.done, l.name, l.finished, l.finished+l.had, humanSize(l.bytes()), there)
		return
	}
	if now := l.now(); now.After(l.next) {
		fmt.Fprintf(l.out, "%s %s: %s\n", l.verb.doing, l.name, humanSize(l.bytes()))
		l.next = now.Add(10 * time.Second)
	}
}

// bytes is how much was moved so far.
func (l *journal) bytes() (n int64) {
	for _, e := range l.blobs {
		n += e.Done
	}
	return n
}

// bars is a bar per layer.
type bars struct {
	mu     sync.Mutex
	doing  string
	title  string // to be shown with the first bar
	out    io.Writer
	shown  *mpb.Progress
	byBlob map[string]*mpb.Bar
}

func (b *bars) tell(e pull.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Kind {
	case pull.Begin:
		b.stop()
		b.title = e.Name
	case pull.Start:
		b.bar(e)
	case pull.Advance:
		b.bar(e).SetCurrent(e.Done)
	case pull.Finish, pull.Skip:
		bar := b.bar(e)
		if e.Total > 0 {
			bar.SetTotal(e.Total, false)
			bar.SetCurrent(e.Total)
		}
		bar.SetTotal(-1, true)
	case pull.End:
		b.stop()
	}
}

// bar is the one of a layer.
func (b *bars) bar(e pull.Event) *mpb.Bar {
	if bar := b.byBlob[e.Blob]; bar != nil {
		return bar
	}
	if b.shown == nil {
		fmt.Fprintf(b.out, "%s %s\n", b.doing, b.title)
		b.shown = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(40))
	}
	done := "done"
	if e.Kind == pull.Skip {
		done = "already there"
	}
	bar := b.shown.AddBar(max(e.Total, 0),
		mpb.PrependDecorators(decor.Name(shortDigest(e.Blob)+" ")),
		mpb.AppendDecorators(decor.OnComplete(decor.CountersKibiByte("% .1f / % .1f"), done)))
	b.byBlob[e.Blob] = bar
	return bar
}

// stop ends the bars of one image; those of layers that did not finish stay as they are.
func (b *bars) stop() {
	if b.shown == nil {
		return
	}
	for _, bar := range b.byBlob {
		if !bar.Completed() {
			bar.Abort(false)
		}
	}
	b.shown.Wait()
	b.shown, b.byBlob = nil, map[string]*mpb.Bar{}
}

func (b *bars) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop()
}

// shortDigest is a digest as people read it.
func shortDigest(d string) string {
	_, hex, found := strings.Cut(d, ":")
	if !found {
		hex = d
	}
	return hex[:min(12, len(hex))]
}

// wide says whether a terminal has a width that bars can be drawn in; a serial line or a script's terminal may have none.
func wide(w *os.File) bool {
	_, cols := terminalSize(w)
	return cols >= 20
}
