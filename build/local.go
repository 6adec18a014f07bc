package build

// This file writes what was built as plain files: into a directory or as one archive, each platform of several below a directory of its own.

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-containers/skiff/build/files"
)

// below is the directory of an image among several: linux_amd64, as BuildKit calls it.
func (b *Built) below(img *Image) string {
	if len(b.Images) == 1 {
		return ""
	}
	return strings.ReplaceAll(img.Platform, "/", "_")
}

// Local writes the files of the tree into a directory, which is made. They belong to the user.
func (b *Built) Local(ctx context.Context, dir string) error {
	for i := range b.Images {
		if err := b.local(ctx, &b.Images[i], filepath.Join(dir, b.below(&b.Images[i]))); err != nil {
			return err
		}
	}
	return nil
}

func (b *Built) local(ctx context.Context, img *Image, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	root, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	defer root.Close() // nothing is buffered
	v, err := b.store.View(ctx, img.Tree)
	if err != nil {
		return err
	}
	o := files.CopyOptions{Pick: files.Pick{Path: "/"}, Owner: &files.Owner{}, Contents: true, Time: img.Epoch}
	if err := files.Copy(ctx, files.Source{Root: v.Root}, root, "/", o); err != nil {
		return fmt.Errorf("cannot write the output to %s: %w", dir, err)
	}
	return nil
}

// Tar writes the files of the tree as an archive.
func (b *Built) Tar(ctx context.Context, w *os.File) error {
	var parts []files.Part
	o := files.TarOptions{}
	for i := range b.Images {
		img := &b.Images[i]
		v, err := b.store.View(ctx, img.Tree)
		if err != nil {
			return err
		}
		if img.Epoch != nil {
			o.Latest = *img.Epoch
		}
		parts = append(parts, files.Part{Below: b.below(img), Root: v.Root})
	}
	return files.TarAll(w, parts, o)
}
