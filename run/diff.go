package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
)

// Change is a path in a container that differs from its image.
type Change struct {
	Kind byte // 'A' added, 'C' changed, 'D' deleted
	Path string
}

// Changes lists what a container has changed of its image, sorted by path, from the container's own layer directory alone. The caller is inside the
// user namespace. Mount points that skiff itself makes are not told. Nothing is opened: names and kinds of files are all it takes, and no link is followed.
func (h *Host) Changes(c *record.Container) ([]Change, error) {
	img, err := h.Images.Load(c.ImageID)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.Records.Dir(c.ID), record.Layer)
	if _, err := os.Lstat(filepath.Join(dir, "copy")); err == nil || layer.Kind(c.Layer) == layer.VFS {
		return nil, fmt.Errorf("cannot compare container %s with its image: with --storage-driver vfs it has a copy of the image and no layer of its own", c.Name)
	}
	d := &differ{upper: filepath.Join(dir, "upper"), lower: img.Layers}
	if err := d.walk("", img.Layers); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot compare container %s with its image: %w", c.Name, err)
	}
	slices.SortFunc(d.found, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.found, nil
}

type differ struct {
	upper string
	lower []string
	found []Change
}

// ours are the mount points that each start makes.
var ours = []string{"/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/secrets"}

// walk compares a directory of the upper layer with the directories that lie below it, top first.
func (d *differ) walk(rel string, below []string) error {
	entries, err := os.ReadDir(filepath.Join(d.upper, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.compare(path.Join(rel, e.Name()), e, below); err != nil && !errors.Is(err, os.ErrNotExist) { // it may go while we look
			return err
		}
	}
	return nil
}

func (d *differ) compare(name string, e fs.DirEntry, below []string) error {
	full := filepath.Join(d.upper, name)
	there, dirs, err := lookup(below, e.Name())
	if err != nil {
		return err
	}
	gone, err := whiteout(full)
	switch {
	case err != nil:
		return err
	case gone && there:
		d.tell('D', name)
		return nil
	case gone:
		return nil
	case !there:
		d.tell('A', name)
	}
	if !e.IsDir() {
		if there {
			d.tell('C', name)
		}
		return nil
	}
	before := len(d.found)
	if layer.Opaque(full) {
		if err := d.removed(name, dirs); err != nil {
			return err
		}
		dirs = nil
	}
	if err := d.walk(name, dirs); err != nil {
		return err
	}
	// Of a directory of the image, only those are told in which something is different, or that are different themselves: all others were merely opened for that.
	if there && (len(d.found) > before || !slices.Contains(ours, "/"+name)) {
		d.tell('C', name)
	}
	return nil
}

// removed tells what an opaque directory hides and does not have itself.
func (d *differ) removed(name string, dirs []string) error {
	seen := map[string]bool{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			gone, err := whiteout(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			if _, err := os.Lstat(filepath.Join(d.upper, name, e.Name())); !gone && errors.Is(err, os.ErrNotExist) {
				d.tell('D', path.Join(name, e.Name()))
			}
		}
		if layer.Opaque(dir) {
			break
		}
	}
	return nil
}

func (d *differ) tell(kind byte, name string) {
	if kind == 'A' && slices.Contains(ours, "/"+name) {
		return
	}
	d.found = append(d.found, Change{kind, "/" + name})
}

// lookup finds a name in directories that lie over each other: whether there is such a file, and, of a directory, those that it is made of.
func lookup(dirs []string, name string) (there bool, found []string, err error) {
	for _, dir := range dirs {
		full := filepath.Join(dir, name)
		st, err := os.Lstat(full)
		if errors.Is(err, os.ErrNotExist) {
			if layer.Opaque(dir) {
				break
			}
			continue
		}
		if err != nil {
			return false, nil, err
		}
		if gone, err := whiteout(full); err != nil || gone {
			return there, found, err
		}
		if !st.IsDir() {
			return true, found, nil // what lies below it is hidden
		}
		there, found = true, append(found, full)
		if layer.Opaque(full) || layer.Opaque(dir) {
			break
		}
	}
	return there, found, nil
}

// whiteout says whether a file of a layer stands for one that was removed (overlayfs.rst, "whiteouts").
func whiteout(name string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return false, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0, nil
}
