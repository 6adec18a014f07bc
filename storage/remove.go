package storage

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/storage"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/ref"
)

// User is a container that uses an image.
type User struct {
	ID      string
	Running bool
}

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force bool
	// Users lists the containers of an image; it is asked while no container can be created.
	Users func(imageID string) ([]User, error)
}

// Removed is one thing that Remove did: a name taken away from image ID, or an image (ID) or a layer deleted.
type Removed struct{ Untagged, ID, Deleted string }

// Remove takes a name from an image, and deletes the image when it was the last one, as `docker rmi` does. An image that a container uses
// is never deleted; with Force it loses its names.
func (s *Store) Remove(name string, o RemoveOptions) (done []Removed, err error) {
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err = s.reconcile(false); err != nil {
		return nil, err
	}
	img, err := s.Find(name)
	if err != nil {
		return nil, err
	}
	all, err := s.Index.Names()
	if err != nil {
		return nil, err
	}
	names := all[img.ID]
	users, err := o.Users(img.ID)
	if err != nil {
		return nil, err
	}
	take := typed(name, names)
	if len(take) > 0 && len(names) > len(take) {
		return s.untag(img, take, names) // the image keeps another name
	}
	if len(names) > 0 {
		if known, err := s.untagDigest(img, name); known || err != nil {
			return []Removed{{Untagged: name, ID: img.ID}}, err // it keeps its tags
		}
	}
	if err = conflict(name, img, names, users, len(take) > 0, o.Force); err != nil {
		return nil, err
	}
	if img.ReadOnly {
		return nil, &Error{
			What: fmt.Sprintf("cannot remove image %s: it is in an additional image store, which skiff only reads", name), Err: ErrInUse,
		}
	}
	if done, err = s.untag(img, names, names); err != nil || len(users) > 0 {
		return done, err
	}
	deleted, err := s.delete(img)
	return append(done, deleted...), err
}

// Reclaim is Remove that also says how many bytes of layers went with it.
func (s *Store) Reclaim(name string, o RemoveOptions) ([]Removed, int64, error) {
	before, err := s.layerBytes()
	if err != nil {
		return nil, 0, err
	}
	done, err := s.Remove(name, o)
	after, sizeErr := s.layerBytes()
	return done, before - after, errors.Join(err, sizeErr)
}

// Sweep deletes layers that no image uses, and says how many bytes they had.
func (s *Store) Sweep() (int64, error) {
	before, err := s.layerBytes()
	if err != nil {
		return 0, err
	}
	if err = s.sweepLayers(); err != nil {
		return 0, err
	}
	after, err := s.layerBytes()
	return before - after, err
}

// layerBytes is the size of all unpacked layers.
func (s *Store) layerBytes() (total int64, err error) {
	layers, err := s.lib.Layers()
	if err != nil {
		return 0, explain("list the layers of", s.data, err)
	}
	for _, l := range layers {
		if !l.ReadOnly {
			total += max(l.UncompressedSize, 0)
		}
	}
	return total, nil
}

// typed are those of an image's names that the user's word means; none when it is an id or a digest.
func typed(word string, names []string) []string {
	r, err := ref.Parse(word)
	if err != nil || r.Digest != "" {
		return nil
	}
	if full := r.String(); slices.Contains(names, full) {
		return []string{full}
	}
	return nil
}

// conflict is the reason not to remove an image that would be left without a name, in Docker's words.
func conflict(word string, img *image.Image, names []string, users []User, byName, force bool) error {
	fail := func(format string, args ...any) error {
		return &Error{What: "conflict: " + fmt.Sprintf(format, args...), Err: ErrInUse}
	}
	if byName && !force && len(users) > 0 {
		return fail("unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
			word, short(users[0].ID), short(img.ID))
	}
	if byName || force && !slices.ContainsFunc(users, func(u User) bool { return u.Running }) {
		return nil
	}
	for _, u := range users {
		if u.Running {
			return fail("unable to delete %s (cannot be forced) - image is being used by running container %s", short(img.ID), short(u.ID))
		}
	}
	if len(users) > 0 {
		return fail("unable to delete %s (must be forced) - image is being used by stopped container %s", short(img.ID), short(users[0].ID))
	}
	if len(repositories(names)) > 1 {
		return fail("unable to delete %s (must be forced) - image is referenced in multiple repositories", short(img.ID))
	}
	return nil
}

// repositories are the names without their tags, each once.
func repositories(names []string) []string {
	var list []string
	for _, n := range names {
		list = append(list, n[:max(strings.LastIndexByte(n, ':'), 0)])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// untag takes names from an image, in the store first: what Reconcile repairs is the index.
func (s *Store) untag(img *image.Image, take, names []string) (done []Removed, err error) {
	if len(take) == 0 {
		return nil, nil
	}
	left := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(take, n) })
	var digests []string // of repositories that have no other name of the image
	for _, d := range img.RepoDigests {
		repository, _, _ := strings.Cut(d, "@")
		if slices.Contains(repositories(take), repository) && !slices.Contains(repositories(left), repository) {
			digests = append(digests, d)
		}
	}
	if err := s.lib.RemoveNames(img.ID, slices.Concat(take, digests)); err != nil {
		return nil, explain("untag image", short(img.ID), err)
	}
	for _, n := range take {
		if err := s.Index.Untag(n); err != nil {
			return done, err
		}
		done = append(done, Removed{Untagged: familiar(n), ID: img.ID})
	}
	for _, d := range digests {
		done = append(done, Removed{Untagged: familiar(d), ID: img.ID})
	}
	return done, nil
}

// untagDigest forgets that a registry has an image by the digest of name (NAME@DIGEST); false when that was not known, or is no such name.
func (s *Store) untagDigest(img *image.Image, name string) (bool, error) {
	r, err := ref.Parse(name)
	if err != nil || r.Digest == "" {
		return false, nil //nolint:nilerr // an id
	}
	stored, err := s.lib.Image(img.ID)
	if err != nil {
		return false, explain("find image", short(img.ID), err)
	}
	full := r.Name() + "@" + r.Digest
	if !slices.Contains(stored.Names, full) {
		return false, nil
	}
	if err := s.lib.RemoveNames(img.ID, []string{full}); err != nil {
		return false, explain("untag image", short(img.ID), err)
	}
	return true, nil
}

// delete removes an image and the layers nobody else uses: from the index first, so that whatever stands there can be run.
func (s *Store) delete(img *image.Image) ([]Removed, error) {
	if err := s.Index.Delete(img.ID); err != nil {
		return nil, err
	}
	layers, err := s.lib.DeleteImage(img.ID, true)
	if err != nil {
		return nil, explain("delete image", short(img.ID), err)
	}
	done := []Removed{{Deleted: "sha256:" + img.ID, ID: img.ID}}
	for _, l := range layers {
		done = append(done, Removed{Deleted: "sha256:" + l})
	}
	return done, s.sweepLayers()
}

// sweepLayers deletes images that were not finished and layers that no image uses: what interrupted pulls had finished. It does nothing while somebody pulls.
func (s *Store) sweepLayers() error {
	lock, err := disk.TryLock(s.writersLock(), disk.Exclusive)
	if errors.Is(err, disk.ErrLocked) {
		return nil
	} else if err != nil {
		return explain("lock the store", s.data, err)
	}
	defer lock.Unlock()
	images, err := s.lib.Images()
	if err != nil {
		return explain("list the images of", s.data, err)
	}
	for _, img := range images {
		if unfinished(&img) {
			if _, err := s.lib.DeleteImage(img.ID, true); err != nil {
				return explain("delete image", short(img.ID), err)
			}
		}
	}
	layers, err := s.lib.Layers()
	if err != nil {
		return explain("list the layers of", s.data, err)
	}
	parent, used := map[string]string{}, map[string]bool{}
	for _, l := range layers {
		parent[l.ID] = l.Parent
	}
	for _, img := range images {
		if unfinished(&img) {
			continue
		}
		for _, top := range append([]string{img.TopLayer}, img.MappedTopLayers...) {
			for id := top; id != "" && !used[id]; id = parent[id] {
				used[id] = true
			}
		}
	}
	// Children come after their parents in the library's list.
	for _, l := range slices.Backward(layers) {
		if used[l.ID] || l.ReadOnly {
			continue
		}
		if err := s.lib.DeleteLayer(l.ID); err != nil {
			return explain("delete layer", short(l.ID), err)
		}
	}
	return nil
}

// unfinished says that whoever wrote an image was killed before it had its configuration: nobody can see it, and it has layers. Lists of images have none.
func unfinished(img *storage.Image) bool {
	return !img.ReadOnly && len(img.Names) == 0 && img.TopLayer != "" && !indexable(img)
}

// familiar is a name as Docker shows it.
func familiar(name string) string {
	r, err := ref.Parse(name)
	if err != nil {
		return name
	}
	return r.Familiar()
}
