package pull

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.podman.io/image/v5/copy"
	docker "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/oci/layout"
	transport "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/ref"
)

// SaveOptions of Save.
type SaveOptions struct {
	Format   string // docker-archive (the default) or oci-archive
	Progress func(Event)
}

// saving is one image to save, with the names it gets in the archive.
type saving struct {
	word  string
	img   *image.Image
	names []reference.NamedTagged
}

// Save writes images as one archive. An image that is asked for by name has that name there, one asked for by id none.
func Save(ctx context.Context, s *storage.Store, out io.Writer, words []string, o SaveOptions) error {
	list, err := toSave(s, words)
	if err != nil {
		return err
	}
	sys, err := Access{}.system(ctx, s, nil)
	if err != nil {
		return err
	}
	switch o.Format {
	case "", "docker-archive":
		err = saveDocker(ctx, s, sys, out, list, o)
	case "oci-archive":
		err = saveOCI(ctx, s, sys, out, list, o)
	default:
		return fmt.Errorf("cannot save in format %q: it is docker-archive or oci-archive", o.Format)
	}
	title := words[0]
	if len(words) > 1 {
		title = fmt.Sprintf("%s and %d more", title, len(words)-1)
	}
	return explain(ctx, "save", title, "", err)
}

// toSave finds the images before anything is written. One image under several names is one entry.
func toSave(s *storage.Store, words []string) ([]*saving, error) {
	var list []*saving
	byID := map[string]*saving{}
	for _, word := range words {
		img, err := s.Find(word)
		if err != nil {
			return nil, err
		}
		one := byID[img.ID]
		if one == nil {
			one = &saving{word: word, img: img}
			byID[img.ID], list = one, append(list, one)
		}
		names, err := s.Index.Names()
		if err != nil {
			return nil, err
		}
		if r, err := ref.Parse(word); err == nil && r.Digest == "" {
			for _, n := range names[img.ID] {
				if n == r.String() {
					named, err := parseNamed(n)
					if err != nil {
						return nil, err
					}
					if tagged, ok := named.(reference.NamedTagged); ok {
						one.names = append(one.names, tagged)
					}
				}
			}
		}
	}
	return list, nil
}

// saveDocker streams a docker-archive: the library writes into a pipe, because it opens its file itself.
func saveDocker(ctx context.Context, s *storage.Store, sys *types.SystemContext, out io.Writer, list []*saving, o SaveOptions) error {
	return piped(out, func(path string) (err error) {
		w, err := docker.NewWriter(sys, path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		for _, one := range list {
			var first reference.NamedTagged
			own := *sys
			if len(one.names) > 0 {
				first, own.DockerArchiveAdditionalTags = one.names[0], one.names[1:]
			}
			place, err := w.NewReference(first)
			if err != nil {
				return err
			}
			if _, err := saveOne(ctx, s, &own, place, one, manifest.DockerV2Schema2MediaType, o); err != nil {
				return err
			}
		}
		return nil
	})
}

// piped calls write with the path of a pipe, and copies what comes out of it.
func piped(out io.Writer, write func(path string) error) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, r)
		r.Close()
		copied <- err
	}()
	written := write(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
	closed := w.Close()
	if err := <-copied; err != nil {
		return err // the reason that writing failed, if it did
	}
	return errors.Join(written, closed)
}

// saveOCI makes an OCI layout and streams it as an archive.
func saveOCI(ctx context.Context, s *storage.Store, sys *types.SystemContext, out io.Writer, list []*saving, o SaveOptions) error {
	dir, err := os.MkdirTemp(s.Scratch(), "oci-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the scratch directory goes anyway
	for _, one := range list {
		names := []string{""}
		if len(one.names) > 0 {
			names = names[:0]
			for _, n := range one.names {
				names = append(names, n.String())
			}
		}
		var raw []byte
		for _, name := range names {
			place, err := layout.NewReference(dir, name)
			if err != nil {
				return err
			}
			if raw, err = saveOne(ctx, s, sys, place, one, "", o); err != nil {
				return err
			}
		}
		if err := keepConfig(s, dir, one.img.ID, raw); err != nil {
			return err
		}
	}
	w := tar.NewWriter(out)
	if err := archiveLayout(ctx, w, dir); err != nil {
		return err
	}
	return w.Close()
}

// archiveLayout writes the files of an OCI layout. They have neither owners nor times, so that one image always gives one archive.
func archiveLayout(ctx context.Context, w *tar.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755})
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: st.Size()}); err != nil {
			return err
		}
		_, err = io.Copy(w, reader{ctx, f})
		return err
	})
}

// saveOne copies one image to its place and returns the manifest that it has there.
func saveOne(ctx context.Context, s *storage.Store, sys *types.SystemContext, place types.ImageReference, one *saving, format string, o SaveOptions) ([]byte, error) {
	source, err := transport.Transport.NewStoreReference(s.Library(), nil, one.img.ID)
	if err != nil {
		return nil, err
	}
	policy, err := trustAll()
	if err != nil {
		return nil, err
	}
	defer policy.Destroy() //nolint:errcheck // frees memory
	if o.Progress != nil {
		o.Progress(Event{Kind: Begin, Name: one.word})
	}
	options := &copy.Options{SourceCtx: sys, DestinationCtx: sys, ForceManifestMIMEType: format, RemoveSignatures: true}
	done := events(options, o.Progress)
	raw, err := copy.Image(ctx, policy, place, source, options)
	done()
	if err == nil && o.Progress != nil {
		o.Progress(Event{Kind: End, Name: one.word, ID: one.img.ID})
	}
	return raw, err
}
