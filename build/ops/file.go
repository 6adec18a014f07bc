package ops

// This file is the file operation: COPY, ADD, WORKDIR and what else changes files without running anything.

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/run/spec"
)

type fileOp struct {
	base
	op *pb.FileOp
}

// contentKey computes a cache key from what picks take of a result.
func (e *Env) contentKey(picks []files.Pick) solver.ResultBasedCacheFunc {
	return func(ctx context.Context, r solver.Result, _ session.Group) (digest.Digest, error) {
		in, ok := r.Sys().(*Ref)
		if !ok {
			return "", fmt.Errorf("cannot use a result of type %T", r.Sys())
		}
		src, err := e.Source(ctx, in)
		if err != nil {
			return "", err
		}
		memory := e.Memory
		if in.Local == nil {
			memory = nil // device numbers of union mounts are given again to others
		}
		sum, err := files.Digest(src, picks, memory)
		if err != nil {
			return "", err
		}
		return digest.Digest("sha256:" + sum), nil
	}
}

func pickOf(c *pb.FileActionCopy) files.Pick {
	return files.Pick{Path: c.Src, Wildcard: c.AllowWildcard, Follow: c.FollowSymlink, Include: c.IncludePatterns, Exclude: c.ExcludePatterns}
}

// owners are the account files that a named owner is looked up in.
func owners(picks map[int][]files.Pick, o *pb.ChownOpt) {
	if o == nil {
		return
	}
	for _, u := range []*pb.UserOpt{o.User, o.Group} {
		if named := u.GetByName(); named != nil && named.Input >= 0 {
			for _, p := range []string{"/etc/passwd", "/etc/group"} {
				picks[int(named.Input)] = append(picks[int(named.Input)], files.Pick{Path: p, Follow: true})
			}
		}
	}
}

// CacheMap implements solver.Op: what is copied counts by its content, what is changed by how it was made.
func (o *fileOp) CacheMap(context.Context, solver.JobContext, int) (*solver.CacheMap, bool, error) {
	described, picks, err := o.describe()
	if err != nil {
		return nil, false, err
	}
	m, err := o.cacheMap("skiff.file.v2", described, picks)
	return m, true, err
}

// describe says what the operation does, whatever its inputs are, and what it takes of those that it does not change.
func (o *fileOp) describe() (described []string, picks map[int][]files.Pick, err error) {
	picks = map[int][]files.Pick{}
	changed := map[int]bool{}
	for _, a := range o.op.Actions {
		clone := a.CloneVT()
		changed[int(a.Input)] = true
		switch {
		case clone.GetCopy() != nil:
			c := clone.GetCopy()
			owners(picks, c.Owner)
			if i := int(a.SecondaryInput); i >= 0 && i < o.inputs {
				picks[i] = append(picks[i], pickOf(c))
				c.Src = path.Base(c.Src) // where it came from does not matter, its name may
			}
		case clone.GetMkdir() != nil:
			owners(picks, clone.GetMkdir().Owner)
		case clone.GetMkfile() != nil:
			owners(picks, clone.GetMkfile().Owner)
		case clone.GetSymlink() != nil:
			owners(picks, clone.GetSymlink().Owner)
		}
		text, err := json.Marshal(clone)
		if err != nil {
			return nil, nil, err
		}
		described = append(described, string(text))
	}
	for i := range changed {
		delete(picks, i)
	}
	return described, picks, nil
}

// Exec implements solver.Op.
func (o *fileOp) Exec(ctx context.Context, _ solver.JobContext, inputs []solver.Result) ([]solver.Result, error) {
	// An action changes an input or the result of an earlier action; one that is changed further is no result of its own.
	drafts := map[int64]*snap.Draft{}
	defer func() {
		for _, d := range drafts {
			_ = d.Discard() // an earlier error is being returned
		}
	}()
	outputs := map[int64]*snap.Draft{}
	places := map[*snap.Draft]*place{}
	defer func() {
		for _, p := range places {
			p.close()
		}
	}()
	for i, a := range o.op.Actions {
		index := int64(len(inputs) + i)
		d := drafts[a.Input]
		if d == nil {
			in, err := ref(inputs, a.Input)
			if err != nil {
				return nil, err
			}
			if in.Local != nil {
				return nil, fmt.Errorf("cannot change the build context")
			}
			if d, err = o.env.Snap.New(ctx, in.Tree); err != nil {
				return nil, err
			}
			drafts[index] = d
			if places[d], err = o.place(in.Tree); err != nil {
				return nil, err
			}
		}
		delete(drafts, a.Input)
		drafts[index] = d
		if err := d.Settle(ctx); err != nil {
			return nil, err
		}
		if err := o.act(ctx, d, a, inputs, drafts, places[d]); err != nil {
			return nil, err
		}
		if a.Output >= 0 {
			outputs[a.Output] = d
		}
	}
	results := make([]solver.Result, len(outputs))
	for i := range results {
		d := outputs[int64(i)]
		if d == nil {
			return nil, fmt.Errorf("cannot find output %d of %s", i, o.name)
		}
		for key, one := range drafts {
			if one == d {
				delete(drafts, key)
			}
		}
		tree, err := places[d].commit(o.env.Snap, d, o.name)
		if err != nil {
			return nil, err
		}
		results[i] = Result(&Ref{Key: tree.ID(), Tree: tree})
	}
	return results, nil
}

// act does one action in a draft.
func (o *fileOp) act(ctx context.Context, d *snap.Draft, a *pb.FileAction, inputs []solver.Result, drafts map[int64]*snap.Draft, p *place) error {
	root := d.Root()
	switch {
	case a.GetMkdir() != nil:
		m := a.GetMkdir()
		owner, err := o.owner(ctx, m.Owner, inputs, root)
		if err != nil {
			return err
		}
		return files.Mkdir(root, m.Path, uint32(m.Mode)&0o7777, m.MakeParents, owner, stamp(m.Timestamp))
	case a.GetMkfile() != nil:
		m := a.GetMkfile()
		owner, err := o.owner(ctx, m.Owner, inputs, root)
		if err != nil {
			return err
		}
		return files.WriteFile(root, m.Path, m.Data, uint32(m.Mode)&0o7777, owner, stamp(m.Timestamp))
	case a.GetSymlink() != nil:
		m := a.GetSymlink()
		owner, err := o.owner(ctx, m.Owner, inputs, root)
		if err != nil {
			return err
		}
		return files.Symlink(root, m.Oldpath, m.Newpath, owner, stamp(m.Timestamp))
	case a.GetRm() != nil:
		return files.Remove(root, a.GetRm().Path, a.GetRm().AllowWildcard, a.GetRm().AllowNotFound)
	case a.GetCopy() != nil:
		return o.copy(ctx, d, a, inputs, drafts, p)
	}
	return fmt.Errorf("cannot do file action %T: it is not known", a.Action)
}

func (o *fileOp) copy(ctx context.Context, d *snap.Draft, a *pb.FileAction, inputs []solver.Result, drafts map[int64]*snap.Draft, p *place) error {
	c, root := a.GetCopy(), d.Root()
	var src files.Source
	var memory files.Remember
	if from := drafts[a.SecondaryInput]; from != nil && a.SecondaryInput >= int64(len(inputs)) {
		if err := from.Settle(ctx); err != nil {
			return err
		}
		src.Root = from.Root()
	} else {
		in, err := ref(inputs, a.SecondaryInput)
		if err != nil {
			return err
		}
		if src, err = o.env.Source(ctx, in); err != nil {
			return err
		}
		if in.Local != nil {
			memory = o.env.Memory
		}
	}
	owner, err := o.owner(ctx, c.Owner, inputs, root)
	if err != nil {
		return err
	}
	options := files.CopyOptions{
		Pick: pickOf(c), Owner: owner, ModeText: c.ModeStr, Time: stamp(c.Timestamp), Contents: c.DirCopyContents,
		Replace: c.AlwaysReplaceExistingDestPaths, Unpack: c.AttemptUnpackDockerCompatibility, EmptyOK: c.AllowEmptyWildcard, Required: c.RequiredPaths,
	}
	if c.Mode != -1 && c.ModeStr == "" {
		mode := uint32(c.Mode) & 0o7777
		options.Mode = &mode
	}
	if options.Direct, err = p.direct(d, memory); err != nil {
		return err
	}
	if options.Direct != nil {
		defer options.Direct.Upper.Close() // nothing is buffered
	}
	return files.Copy(ctx, src, root, c.Dest, options)
}

// stamp is a time of an operation's description; -1 is none.
func stamp(ns int64) *time.Time {
	if ns == -1 {
		return nil
	}
	t := time.Unix(0, ns)
	return &t
}

// owner resolves --chown; names are looked up in the tree that they are for.
func (o *fileOp) owner(ctx context.Context, c *pb.ChownOpt, inputs []solver.Result, root *os.File) (*files.Owner, error) {
	if c == nil || c.User == nil && c.Group == nil {
		return nil, nil //nolint:nilnil // no owner was asked for
	}
	word := func(u *pb.UserOpt) string {
		if u == nil {
			return ""
		}
		if named := u.GetByName(); named != nil {
			return named.Name
		}
		return fmt.Sprint(u.GetByID())
	}
	in := root
	for _, u := range []*pb.UserOpt{c.User, c.Group} {
		if named := u.GetByName(); named != nil && named.Input >= 0 && named.Input < int64(len(inputs)) {
			r, err := ref(inputs, named.Input)
			if err != nil {
				return nil, err
			}
			src, err := o.env.Source(ctx, r)
			if err != nil {
				return nil, err
			}
			in = src.Root
		}
	}
	text := word(c.User)
	group := word(c.Group)
	if group != "" {
		text += ":" + group
	}
	u, err := spec.LookupUser(in, text, nil)
	if err != nil {
		return nil, err
	}
	if group == "" && strings.Trim(text, "0123456789") == "" {
		u.GID = u.UID // Docker's rule for a bare number
	}
	return &files.Owner{UID: u.UID, GID: u.GID}, nil
}
