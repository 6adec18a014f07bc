package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
	"github.com/skiff-containers/skiff/storage/ref"
)

// ErrNotFound and ErrAmbiguous are tested with errors.Is.
var (
	ErrNotFound  = errors.New("no such image")
	ErrAmbiguous = errors.New("several images have an id that begins so")
)

// Index is <data>/images: <id>.json files, and names/<escaped name> symlinks to ids.
type Index struct{ dir string }

const namesDir = "names"

// Open names the index under a data directory; nothing is made until something is written.
func Open(data string) *Index { return &Index{dir: filepath.Join(data, "images")} }

// A name becomes one path component: '/' and '%' are escaped as in a URL.
var (
	escaper   = strings.NewReplacer("%", "%25", "/", "%2F")
	unescaper = strings.NewReplacer("%2F", "/", "%25", "%")
)

func (x *Index) link(name string) string {
	return filepath.Join(x.dir, namesDir, escaper.Replace(name))
}

func (x *Index) file(id string) string { return filepath.Join(x.dir, id+".json") }

// Find resolves what a user typed: a name (short names mean docker.io/library/, no tag means latest), name@digest, an id or an id prefix.
func (x *Index) Find(s string) (*Image, error) {
	id, _, err := x.Resolve(s)
	if err != nil {
		return nil, err
	}
	return x.Load(id)
}

// Resolve is Find without reading the image: its id, and the full name it was found by ("" when it was found by id).
func (x *Index) Resolve(s string) (id, name string, err error) {
	plain, isID := strings.CutPrefix(s, "sha256:")
	r, refErr := ref.Parse(s)
	if refErr == nil && !isID {
		if id, err := os.Readlink(x.link(r.String())); err == nil {
			return id, r.String(), nil
		}
		if r.Digest != "" {
			if id, err := x.byDigest(r); err == nil {
				return id, r.String(), nil
			}
		}
	}
	if isHex(plain) && len(plain) <= 64 {
		if id, err := x.byPrefix(plain); err == nil || errors.Is(err, ErrAmbiguous) {
			return id, "", err
		}
	}
	if refErr != nil && !isHex(plain) {
		return "", "", refErr
	}
	return "", "", fmt.Errorf("%w: %s", ErrNotFound, s)
}

// byDigest finds an image by the digest of its manifest, for names with one.
func (x *Index) byDigest(r ref.Ref) (string, error) {
	want := r.Name() + "@" + r.Digest
	all, err := x.List()
	for _, img := range all {
		if slices.Contains(img.RepoDigests, want) {
			return img.ID, nil
		}
	}
	return "", errors.Join(err, ErrNotFound)
}

func (x *Index) byPrefix(prefix string) (string, error) {
	ids, err := x.ids()
	if err != nil {
		return "", err
	}
	found := ""
	for _, id := range ids {
		if strings.HasPrefix(id, prefix) {
			if found != "" {
				return "", fmt.Errorf("cannot find image %q: %w", prefix, ErrAmbiguous)
			}
			found = id
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w: %s", ErrNotFound, prefix)
	}
	return found, nil
}

// Load reads one image by full id.
func (x *Index) Load(id string) (*Image, error) {
	data, err := os.ReadFile(x.file(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil { // such as too many open files: nothing is wrong with the image
		return nil, fmt.Errorf("cannot read image %s: %w", id[:min(12, len(id))], err)
	}
	img := &Image{}
	if err := plain.Unmarshal(data, img); err != nil {
		return nil, fmt.Errorf("cannot read image %s: %s: %w; remove it with `skiff rmi -f %s` and pull it again", id[:min(12, len(id))], x.file(id), err, id[:min(12, len(id))])
	}
	return img, nil
}

func (x *Index) ids() ([]string, error) {
	d, err := os.Open(x.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list images: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list images: %w", err)
	}
	var ids []string
	for _, n := range names {
		if id, ok := strings.CutSuffix(n, ".json"); ok && isHex(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// List reads all images, newest first. Those that cannot be read are joined in the error, beside the good ones.
func (x *Index) List() ([]*Image, error) {
	ids, err := x.ids()
	if err != nil {
		return nil, err
	}
	var all []*Image
	var errs []error
	for _, id := range ids {
		img, err := x.Load(id)
		if err == nil {
			all = append(all, img)
		} else if !errors.Is(err, ErrNotFound) { // removed meanwhile
			errs = append(errs, err)
		}
	}
	slices.SortFunc(all, func(a, b *Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, errors.Join(errs...)
}

// Names maps every image id to its names (docker.io/library/debian:12), sorted.
func (x *Index) Names() (map[string][]string, error) {
	entries, err := os.ReadDir(filepath.Join(x.dir, namesDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot list image names: %w", err)
	}
	names := make(map[string][]string)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // being made
		}
		if id, err := os.Readlink(filepath.Join(x.dir, namesDir, e.Name())); err == nil {
			names[id] = append(names[id], unescaper.Replace(e.Name()))
		}
	}
	return names, nil
}

// Put writes an image. It comes before the names that point to it.
func (x *Index) Put(img *Image) error {
	if err := os.MkdirAll(filepath.Join(x.dir, namesDir), 0o700); err != nil {
		return fmt.Errorf("cannot record the image: %w", err)
	}
	data, err := plain.Marshal(img)
	if err != nil {
		return fmt.Errorf("cannot record the image: %w", err)
	}
	return disk.WriteFile(x.file(img.ID), data, 0o600, disk.Durable)
}

// Tag points a name at an image, atomically taking it from another.
func (x *Index) Tag(name, id string) error {
	link := x.link(name)
	if len(filepath.Base(link)) > 240 {
		return fmt.Errorf("cannot tag %s: the name is too long", name)
	}
	temp := filepath.Join(filepath.Dir(link), fmt.Sprintf(".tmp-%d-%s", os.Getpid(), id[:min(12, len(id))]))
	if err := os.Symlink(id, temp); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("cannot tag %s: %w", name, err)
	}
	if err := os.Rename(temp, link); err != nil {
		return errors.Join(fmt.Errorf("cannot tag %s: %w", name, err), os.Remove(temp))
	}
	return nil
}

// Sweep removes what killed writers have left; the caller holds the lock for itself.
func (x *Index) Sweep() error {
	var errs []error
	for _, dir := range []string{x.dir, filepath.Join(x.dir, namesDir)} {
		left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")) // the pattern is well-formed
		for _, file := range left {
			errs = append(errs, os.Remove(file))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot sweep the images: %w", err)
	}
	return nil
}

// Untag removes a name; a missing one is no error.
func (x *Index) Untag(name string) error {
	if err := os.Remove(x.link(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot untag %s: %w", name, err)
	}
	return nil
}

// Delete removes the image's names and file.
func (x *Index) Delete(id string) error {
	names, err := x.Names()
	if err != nil {
		return err
	}
	for _, n := range names[id] {
		if err := x.Untag(n); err != nil {
			return err
		}
	}
	if err := os.Remove(x.file(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove image %s: %w", id, err)
	}
	return nil
}

// Lock excludes image removal (Exclusive) from container creation (Shared).
func (x *Index) Lock(mode disk.Mode) (*disk.Lock, error) {
	path := filepath.Join(x.dir, "lock")
	l, err := disk.WaitLock(path, mode, nil)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(x.dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot lock the images: %w", err)
		}
		return disk.WaitLock(path, mode, nil)
	}
	return l, err
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }
