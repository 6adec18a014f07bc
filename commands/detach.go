package commands

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// defaultDetachKeys leave a container to itself, as Docker's do.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// errDetach is what a detachReader returns once it has read the keys.
var errDetach = errors.New("detached")

// parseDetachKeys reads --detach-keys: comma-separated keys, each one character or ctrl- and one of a-z@[\]^_.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(s, ",") {
		name, ctrl := strings.CutPrefix(strings.ToLower(key), "ctrl-")
		switch {
		case len(key) == 1:
			keys = append(keys, key[0])
		case ctrl && len(name) == 1 && (name[0] >= 'a' && name[0] <= 'z' || strings.Contains(`@[\]^_`, name)):
			keys = append(keys, name[0]&0x1f)
		default:
			return nil, fmt.Errorf("invalid detach keys %q: %q is neither one character nor ctrl- with one of a-z@[\\]^_", s, key)
		}
	}
	return keys, nil
}

// detachReader reads a terminal's keys and ends with errDetach when the detach keys come by. A prefix of them is
// held back until it is clear that it is none.
type detachReader struct {
	r       io.Reader
	keys    []byte
	matched int
	pending []byte // bytes that turned out to be ordinary and did not fit
}

// Read implements io.Reader; buffers must have room for the keys, which those of io.Copy do.
func (d *detachReader) Read(p []byte) (int, error) {
	if len(d.keys) == 0 {
		return d.r.Read(p)
	}
	if len(d.pending) > 0 {
		n := copy(p, d.pending)
		d.pending = d.pending[n:]
		return n, nil
	}
	n, err := d.r.Read(p)
	out := make([]byte, 0, n+d.matched)
	for _, b := range p[:n] {
		if b != d.keys[d.matched] {
			out = append(out, d.keys[:d.matched]...)
			d.matched = 0
		}
		if b != d.keys[d.matched] {
			out = append(out, b)
			continue
		}
		if d.matched++; d.matched == len(d.keys) {
			return copy(p, out), errDetach
		}
	}
	if err != nil { // what was held back was no detach after all
		out = append(out, d.keys[:d.matched]...)
		d.matched = 0
	}
	n = copy(p, out)
	d.pending = append(d.pending, out[n:]...)
	return n, err
}
