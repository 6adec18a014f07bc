//go:build !front

package commands

// This file finds what to build from: a directory, a URL, an archive or a Dockerfile on standard input.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/storage/disk"
)

// contexts are the directories of a build; some are made for it, in scratch.
type contexts struct {
	o       *build.Options
	in      io.Reader
	scratch string
}

// find sets the context and the Dockerfile.
func (x *contexts) find(ctx context.Context, where, file string, named []string) error {
	for _, n := range named {
		name, value, ok := strings.Cut(n, "=")
		if !ok || name == "" || value == "" {
			return fmt.Errorf("cannot use --build-context %s: it is not NAME=VALUE", n)
		}
		if err := x.named(strings.ToLower(name), value); err != nil {
			return fmt.Errorf("cannot use --build-context %s: %w", n, err)
		}
	}
	switch {
	case where == "-" && file == "-":
		return errors.New("cannot read both the context and the Dockerfile from standard input")
	case where == "-":
		return x.stdin(ctx, file)
	case remote(where):
		x.o.Frontend["context"] = where
		if file == "-" {
			return x.dockerfileIn()
		}
		if file != "" {
			x.o.Frontend["filename"] = file
		}
		return nil
	}
	st, err := os.Stat(where)
	if err != nil {
		return fmt.Errorf("cannot build: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("cannot build %s: it is no directory; a Dockerfile is given with -f", where)
	}
	x.o.Locals["context"] = where
	if file == "-" {
		return x.dockerfileIn()
	}
	return x.dockerfile(where, file)
}

// remote says whether a context is at a URL.
func remote(where string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "git@", "ssh://", "github.com/"} {
		if strings.HasPrefix(where, prefix) {
			return true
		}
	}
	return false
}

// dockerfile finds the Dockerfile of a directory, which need not be in it.
func (x *contexts) dockerfile(dir, file string) error {
	if file == "" {
		file = filepath.Join(dir, "Dockerfile")
		for _, name := range []string{"Dockerfile", "dockerfile", "Containerfile"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				file = filepath.Join(dir, name)
				break
			}
		}
	}
	st, err := os.Stat(file)
	if err != nil && !filepath.IsAbs(file) {
		// A path that is not there from here may be from the context, as with older builders.
		if inside, insideErr := os.Stat(filepath.Join(dir, file)); insideErr == nil {
			file, st, err = filepath.Join(dir, file), inside, nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot read the Dockerfile: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("cannot read the Dockerfile: %s is no file", file)
	}
	x.o.Locals["dockerfile"], x.o.Frontend["filename"] = filepath.Dir(file), filepath.Base(file)
	return nil
}

// dockerfileIn takes the Dockerfile from standard input.
func (x *contexts) dockerfileIn() error {
	dir, err := os.MkdirTemp(x.scratch, "dockerfile-")
	if err != nil {
		return err
	}
	return x.save(dir, x.in)
}

func (x *contexts) save(dir string, in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, 16<<20))
	if err == nil {
		err = disk.WriteFile(filepath.Join(dir, "Dockerfile"), data, 0o600, disk.Volatile)
	}
	if err != nil {
		return fmt.Errorf("cannot read the Dockerfile from standard input: %w", err)
	}
	x.o.Locals["dockerfile"], x.o.Frontend["filename"] = dir, "Dockerfile"
	x.o.Frontend["dockerfilekey"] = "dockerfile"
	return nil
}

// stdin takes an archive of a context, or a Dockerfile that needs none, from standard input.
func (x *contexts) stdin(ctx context.Context, file string) error {
	dir, err := os.MkdirTemp(x.scratch, "context-")
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(x.in, 64<<10)
	head, err := in.Peek(64 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read standard input: %w", err)
	}
	if len(head) == 0 {
		return errors.New("cannot build: standard input is empty")
	}
	x.o.Locals["context"] = dir
	archive, err := files.IsArchive(head)
	if err != nil {
		return fmt.Errorf("cannot read standard input: %w", err)
	}
	if !archive {
		if file != "" {
			return fmt.Errorf("cannot use -f %s: standard input is a Dockerfile", file)
		}
		return x.save(dir, in)
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close() // nothing is buffered
	if err := files.Unpack(ctx, in, root, "/", &files.Owner{}, nil); err != nil {
		return fmt.Errorf("cannot unpack the context from standard input: %w", err)
	}
	if file != "" {
		file = filepath.Join(dir, files.Rel(file))
	}
	return x.dockerfile(dir, file)
}

// named is one more context.
func (x *contexts) named(name, value string) error {
	if strings.HasPrefix(value, "docker-image://") || remote(value) {
		x.o.Frontend["context:"+name] = value
		return nil
	}
	if layout, ok := strings.CutPrefix(value, "oci-layout://"); ok {
		if x.o.Layouts == nil {
			x.o.Layouts = map[string]string{}
		}
		x.o.Layouts[name] = layout
		return nil
	}
	st, err := os.Stat(value)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is no directory", value)
	}
	x.o.Frontend["context:"+name], x.o.Locals[name] = "local:"+name, value
	return nil
}
