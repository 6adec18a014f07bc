package ops

// This file lets a COPY begin with what the COPY at the same place made the last time: of a context of which one file has changed, only that one is copied.

import (
	"os"
	"strings"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
)

// place is where a file operation makes something: over which layers, and what it did there before.
type place struct {
	name    string
	earlier *os.File          // the upper directory of the last time; nil is none
	has     map[string]string // the digests of its files
	sums    map[string]string // those of what is being made; nil remembers nothing
}

// place looks for what the operation made of a tree the last time. With several actions nothing is remembered: a later one may replace what an earlier one made, and
// digests would be those of files that are not there.
func (o *fileOp) place(lower snap.Tree) (*place, error) {
	if len(o.op.Actions) > 1 {
		return &place{}, nil
	}
	described, _, err := o.describe()
	if err != nil {
		return nil, err
	}
	p := &place{name: snap.Place(lower, strings.Join(described, "\n")), sums: map[string]string{}}
	p.earlier, p.has = o.env.Snap.Earlier(p.name, lower)
	return p, nil
}

func (p *place) close() {
	if p != nil && p.earlier != nil {
		_ = p.earlier.Close() // only read from
	}
}

// direct says how a copy writes past the draft's mount; nil when it cannot. The caller closes Upper.
func (p *place) direct(d *snap.Draft, memory files.Remember) (*files.Direct, error) {
	upper, err := d.Upper()
	if err != nil || upper == nil {
		return nil, err
	}
	direct := &files.Direct{Upper: upper, Memory: memory, Earlier: p.earlier, Has: p.has}
	if p.sums != nil {
		direct.Made = func(path, sum string) { p.sums[path] = sum }
	}
	return direct, nil
}

// commit keeps the draft as a step, the last one at this place.
func (p *place) commit(s *snap.Store, d *snap.Draft, name string) (snap.Tree, error) {
	if len(p.sums) == 0 {
		return d.Commit(name)
	}
	if err := d.SetSums(p.sums); err != nil {
		_ = d.Discard() // the error is being returned
		return nil, err
	}
	tree, err := d.Commit(name)
	if err != nil {
		return nil, err
	}
	return tree, s.SetLatest(p.name, tree.ID())
}
