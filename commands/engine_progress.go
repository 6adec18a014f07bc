//go:build !front

package commands

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/skiff-containers/skiff/pull"
)

// progress shows events on standard error: bars on a terminal, a line per image and finished layer elsewhere, nothing when quiet.
func progress(w *os.File, doing string, quiet bool) (tell func(pull.Event), end func()) {
	switch {
	case quiet:
		return nil, func() {}
	case isTerminal(w) && os.Getenv("TERM") != "dumb" && wide(w):
		b := &bars{doing: doing, out: w, byBlob: map[string]*mpb.Bar{}}
		return b.tell, b.end
	}
	return func(e pull.Event) { tellLine(w, doing, e) }, func() {}
}

// tellLine writes the events that matter in a log.
func tellLine(w io.Writer, doing string, e pull.Event) {
	switch e.Kind {
	case pull.Begin:
		fmt.Fprintf(w, "%s %s\n", doing, e.Name)
	case pull.Finish:
		fmt.Fprintf(w, "%s: done\n", shortDigest(e.Blob))
	case pull.Skip:
		fmt.Fprintf(w, "%s: already there\n", shortDigest(e.Blob))
	}
}

// bars is a bar per layer.
type bars struct {
	mu     sync.Mutex
	doing  string
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
		fmt.Fprintf(b.out, "%s %s\n", b.doing, e.Name)
		b.shown = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(40))
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
