package pull

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	docker "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"

	"github.com/skiff-containers/skiff/storage"
)

// LoadOptions of Load.
type LoadOptions struct {
	Platform Platform
	Progress func(Event)
}

// Load copies all images of an archive, or of a directory, into the store: what docker save, podman save or skopeo write, plain or compressed. path "" reads in.
func Load(ctx context.Context, s *storage.Store, file string, in io.Reader, o LoadOptions) ([]Image, error) {
	unlock, err := s.Writing()
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // closes a descriptor
	title := file
	if file == "" {
		title = "standard input"
	} else {
		if st, err := os.Stat(file); err == nil && st.IsDir() {
			return loadDirectory(ctx, s, file, o)
		}
		f, openErr := os.Open(file)
		if openErr != nil {
			return nil, explain(ctx, "load", file, "", openErr)
		}
		defer f.Close()
		in = f
	}
	plain, err := plainArchive(ctx, s, in)
	if err != nil {
		return nil, explain(ctx, "load", title, "", err)
	}
	defer plain.Close()
	return loadFile(ctx, s, plain, title, "", o)
}

// load reads FILE[:NAME] of a transport that is named.
func load(ctx context.Context, s *storage.Store, rest, scheme string, o LoadOptions) ([]Image, error) {
	file, name := rest, ""
	if _, err := os.Stat(file); err != nil {
		file, name, _ = strings.Cut(rest, ":")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, explain(ctx, "pull", scheme+":"+rest, "", err)
	}
	defer f.Close()
	plain, err := plainArchive(ctx, s, f)
	if err != nil {
		return nil, explain(ctx, "pull", scheme+":"+rest, "", err)
	}
	defer plain.Close()
	return loadFile(ctx, s, plain, scheme+":"+file, name, o)
}

// plainArchive makes a seekable, uncompressed file of an archive: the file itself where it is that, else a temporary one that has no name
// and so cannot be left behind.
func plainArchive(ctx context.Context, s *storage.Store, in io.Reader) (*os.File, error) {
	stream, compressed, err := compression.AutoDecompress(in)
	if err != nil {
		return nil, err
	}
	defer stream.Close() //nolint:errcheck // only read from
	if f, ok := in.(*os.File); ok && !compressed {
		if st, statErr := f.Stat(); statErr == nil && st.Mode().IsRegular() {
			if _, err = f.Seek(0, io.SeekStart); err != nil {
				return nil, err
			}
			return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}
	}
	temporary, err := os.CreateTemp(s.Scratch(), "archive-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(temporary.Name()); err == nil {
		_, err = io.Copy(temporary, reader{ctx, stream})
	}
	if err == nil {
		_, err = temporary.Seek(0, io.SeekStart)
	}
	if err != nil {
		temporary.Close()
		return nil, err
	}
	return temporary, nil
}

// reader stops reading when the context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // for the length of one copy
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// loadFile loads a plain archive; name selects one image of several.
func loadFile(ctx context.Context, s *storage.Store, f *os.File, title, name string, o LoadOptions) ([]Image, error) {
	kind, err := archiveKind(f)
	if err != nil {
		return nil, explain(ctx, "load", title, "", err)
	}
	handle := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	var done []Image
	switch kind {
	case dockerArchive:
		done, err = loadDocker(ctx, s, handle, name, o)
	case ociArchive:
		done, err = loadOCI(ctx, s, f, name, o)
	case rootArchive:
		return nil, &Error{
			What: "cannot load " + title + ": it is an archive of files, not of images", Err: ErrNotArchive,
			Help: "`skiff import` makes an image of a root file system",
		}
	default:
		return nil, &Error{
			What: "cannot load " + title + ": it is not an image archive", Err: ErrNotArchive,
			Help: "load reads what `docker save`, `podman save` and `skiff save` write",
		}
	}
	return done, explain(ctx, "load", title, "", err)
}

// kinds of archives.
type archive int

const (
	noArchive archive = iota
	rootArchive
	dockerArchive
	ociArchive
)

// archiveKind looks for the one file that tells. An archive in both formats, as newer Dockers write it, is read as Docker's, which has the names.
func archiveKind(f *os.File) (archive, error) {
	kind := noArchive
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			_, err = f.Seek(0, io.SeekStart)
			return kind, err
		case errors.Is(err, io.ErrUnexpectedEOF) && kind != noArchive:
			return kind, err
		case err != nil:
			return noArchive, nil //nolint:nilerr // no tar archive at all
		}
		switch name := path.Clean(h.Name); {
		case name == "manifest.json":
			_, err = f.Seek(0, io.SeekStart)
			return dockerArchive, err
		case name == "oci-layout":
			kind = ociArchive
		case kind == noArchive:
			kind = rootArchive
		}
	}
}

// loadDocker loads the images of a docker-archive.
func loadDocker(ctx context.Context, s *storage.Store, file, only string, o LoadOptions) ([]Image, error) {
	sys, err := Access{}.system(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	r, err := docker.NewReader(sys, file)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read from
	list, err := r.List()
	if err != nil {
		return nil, err
	}
	var done []Image
	for _, refs := range list {
		var names []string
		for _, one := range refs {
			if named := one.DockerReference(); named != nil {
				names = append(names, named.String())
			}
		}
		if !selected(only, names) {
			continue
		}
		img, err := pullArchived(ctx, s, sys, refs[0], names, o)
		if err != nil {
			return done, err
		}
		done = append(done, img)
	}
	return done, foundAny(only, done)
}

// loadOCI loads the images of an oci-archive, unpacked first: its blobs are looked up by name.
func loadOCI(ctx context.Context, s *storage.Store, f *os.File, only string, o LoadOptions) ([]Image, error) {
	dir, err := os.MkdirTemp(s.Scratch(), "oci-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the scratch directory goes anyway
	if err = unpackLayout(ctx, f, dir); err != nil {
		return nil, err
	}
	return loadLayout(ctx, s, dir, only, o)
}

// loadDirectory loads what skopeo and podman save write as directories: an OCI layout, with all of its images, or the library's own "dir" format.
func loadDirectory(ctx context.Context, s *storage.Store, dir string, o LoadOptions) ([]Image, error) {
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
		done, err := loadLayout(ctx, s, dir, "", o)
		return done, explain(ctx, "load", dir, "", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "version")); err == nil {
		return pullDirectory(ctx, s, "dir", dir, Options{Platform: o.Platform, Progress: o.Progress})
	}
	return nil, &Error{What: "cannot load " + dir + ": it is a directory without an image", Err: ErrNotArchive, Help: "load reads archives, OCI layouts and what skopeo writes to dir:"}
}

// loadLayout loads the images of an OCI layout.
func loadLayout(ctx context.Context, s *storage.Store, dir, only string, o LoadOptions) ([]Image, error) {
	list, err := layout.List(dir)
	if err != nil {
		return nil, err
	}
	sys, err := Access{}.system(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	var done []Image
	for i, item := range list {
		source, err := layout.NewIndexReference(dir, i)
		if err != nil {
			return done, err
		}
		var names []string
		if name := layoutName(item.ManifestDescriptor.Annotations); name != "" {
			names = []string{name}
		}
		if !selected(only, names) {
			continue
		}
		img, err := pullArchived(ctx, s, sys, source, names, o)
		if err != nil {
			return done, err
		}
		done = append(done, img)
	}
	return done, foundAny(only, done)
}

// layoutName is the full name among a descriptor's annotations, or "": a bare word there is a tag of nobody knows what.
func layoutName(annotations map[string]string) string {
	for _, key := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
		if v := annotations[key]; strings.ContainsAny(v, ":/") {
			if named, err := parseNamed(v); err == nil {
				return named.String()
			}
		}
	}
	return ""
}

// unpackLayout extracts the files of an OCI layout, and nothing else, into dir.
func unpackLayout(ctx context.Context, f *os.File, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // closes a descriptor
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || name != "oci-layout" && name != "index.json" && !strings.HasPrefix(name, "blobs/") {
			continue
		}
		if err = root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		out, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, reader{ctx, t})
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}

// pullArchived copies one image of an archive and gives it its names.
func pullArchived(ctx context.Context, s *storage.Store, sys *types.SystemContext, source types.ImageReference, names []string, o LoadOptions) (Image, error) {
	var first reference.Named
	if len(names) > 0 {
		named, err := parseNamed(names[0])
		if err != nil {
			return Image{}, err
		}
		first = named
	}
	img, err := pullOne(ctx, s, sys, source, first, Options{Platform: o.Platform, Progress: o.Progress})
	if err != nil {
		return Image{}, err
	}
	if len(names) > 1 {
		if err := s.AddNames(img.ID, names[1:]...); err != nil {
			return Image{}, err
		}
	}
	img.Names = names
	return img, nil
}

// selected says whether an image is the wanted one, by name; "" wants all.
func selected(only string, names []string) bool {
	if only == "" {
		return true
	}
	named, err := parseNamed(only)
	if err != nil {
		return false
	}
	for _, n := range names {
		if n == named.String() {
			return true
		}
	}
	return false
}

func foundAny(only string, done []Image) error {
	if len(done) > 0 {
		return nil
	}
	if only != "" {
		return fmt.Errorf("there is no image %s in the archive", only)
	}
	return errors.New("there is no image in the archive")
}
