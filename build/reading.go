package build

// This file reads files for the frontend, and says of them what it does not say.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil/types"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/storage/disk"
)

// ReadFile reads a file of the result, and notes what the frontend does not say of it.
func (r *reference) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	data, err := r.readFile(ctx, req)
	if !strings.HasSuffix(req.Filename, ".dockerignore") {
		if err == nil {
			r.g.noteSyntax(data)
		}
		return data, err
	}
	if err == nil {
		err = checkIgnore(req.Filename, data)
	} else if !errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("cannot read %s: %w", req.Filename, err)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		r.g.mu.Lock()
		r.g.wrong = err
		r.g.mu.Unlock()
	}
	return data, err
}

// readFile reads a file of the result. Without a .dockerignore, .containerignore is read in its place.
func (r *reference) readFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	root, err := r.root(ctx)
	if err != nil {
		return nil, err
	}
	name := req.Filename
	f, err := disk.OpenBeneath(root, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if other, ok := strings.CutSuffix(name, ".dockerignore"); ok && errors.Is(err, unix.ENOENT) {
		f, err = disk.OpenBeneath(root, other+".containerignore", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	var in io.Reader = f
	if req.Range != nil {
		in = io.NewSectionReader(f, int64(req.Range.Offset), int64(req.Range.Length))
	}
	return io.ReadAll(in)
}

// ignored is what is wrong with an ignore file that was read.
func (g *gateway) ignored() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wrong
}

// checkIgnore names the pattern of an ignore file that is none.
func checkIgnore(name string, data []byte) error {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	for _, p := range patterns {
		if _, err := patternmatcher.New([]string{p}); err != nil {
			return fmt.Errorf("cannot use the pattern %q in %s: %w", p, name, err)
		}
	}
	return nil
}

// noteSyntax says that a frontend which the Dockerfile asks for is not run.
func (g *gateway) noteSyntax(data []byte) {
	if frontend, _, at, ok := parser.DetectSyntax(data); ok && !builtIn(frontend) {
		g.warn(client.WarnOpts{}, "", fmt.Sprintf("the frontend %s (line %d) is not run: the built-in one reads the Dockerfile", frontend, at[0].Start.Line))
	}
}

// builtIn says whether a frontend's image is the Dockerfile frontend, of whatever version: the one that is linked into this program.
func builtIn(image string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(image, "docker.io/"), "@")
	name, _, _ = strings.Cut(name, ":")
	return name == "docker/dockerfile" || name == "docker/dockerfile-upstream"
}

// StatFile describes a file of the result.
func (r *reference) StatFile(ctx context.Context, req client.StatRequest) (*types.Stat, error) {
	root, err := r.root(ctx)
	if err != nil {
		return nil, err
	}
	st, err := files.Stat(root, req.Path)
	if err != nil {
		return nil, err
	}
	mode := os.FileMode(st.Mode & 0o777)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		mode |= os.ModeDir
	}
	return &types.Stat{Path: req.Path, Mode: uint32(mode), Uid: st.Uid, Gid: st.Gid, Size: st.Size, ModTime: st.Mtim.Nano()}, nil
}

// ReadDir is not needed by the built-in frontend.
func (r *reference) ReadDir(context.Context, client.ReadDirRequest) ([]*types.Stat, error) {
	return nil, errors.New("cannot list a directory for the frontend")
}
