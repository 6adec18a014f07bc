package ops

// This file is ADD from http(s) and git.

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
)

type downloadedFile struct{ sum string }

type clonedTree struct{ commit, subdir string }

func (e *Env) download(_ context.Context, op *pb.SourceOp) (*downloadedFile, error) {
	return nil, fmt.Errorf("cannot download %s: this version does not fetch files", op.Identifier)
}

func (e *Env) downloaded(_ context.Context, op *pb.SourceOp, _ string) (*Ref, error) {
	return nil, fmt.Errorf("cannot download %s: this version does not fetch files", op.Identifier)
}

func (e *Env) clone(_ context.Context, op *pb.SourceOp) (*clonedTree, error) {
	return nil, fmt.Errorf("cannot clone %s: this version does not fetch repositories", op.Identifier)
}

func (e *Env) cloned(_ context.Context, op *pb.SourceOp, _ string) (*Ref, error) {
	return nil, fmt.Errorf("cannot clone %s: this version does not fetch repositories", op.Identifier)
}
