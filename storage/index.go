package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.podman.io/storage"

	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/ref"
)

// Reconcile makes the index say what the store says. Images that are the same in both cost one read each.
func (s *Store) Reconcile() error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	return errors.Join(s.reconcile(false), lock.Unlock())
}

// Reindex writes the whole index anew.
func (s *Store) Reindex() error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	return errors.Join(s.reconcile(true), lock.Unlock())
}

// reconcile is Reconcile under the index's lock.
func (s *Store) reconcile(all bool) error {
	stored, err := s.lib.Images()
	if err != nil {
		return explain("list the images of", s.data, err)
	}
	names, err := s.Index.Names()
	if err != nil {
		return err
	}
	// An index that cannot be read as a whole is written anew image by image; Load says which.
	indexed, _ := s.Index.List()
	gone := make(map[string]bool, len(indexed))
	for _, img := range indexed {
		gone[img.ID] = true
	}
	errs := []error{s.Index.Sweep()}
	owner := map[string]string{} // of each name in the store
	for _, img := range merged(stored) {
		if !indexable(&img) {
			continue
		}
		delete(gone, img.ID)
		for _, name := range tagged(img.Names) {
			owner[name] = img.ID
		}
		errs = append(errs, s.write(&img, all))
	}
	errs = append(errs, s.rename(names, owner))
	for id := range gone {
		errs = append(errs, s.Index.Delete(id))
	}
	return errors.Join(errs...)
}

// rename makes the index's names, by image, those of the store.
func (s *Store) rename(names map[string][]string, owner map[string]string) error {
	var errs []error
	for id, list := range names {
		for _, name := range list {
			switch owner[name] {
			case id:
				delete(owner, name) // as it should be
			case "":
				errs = append(errs, s.Index.Untag(name))
			}
		}
	}
	for name, id := range owner {
		errs = append(errs, s.Index.Tag(name, id))
	}
	return errors.Join(errs...)
}

// merged makes one of an image that is in an additional store and, because it got a name there, in the user's own as well.
func merged(stored []storage.Image) []storage.Image {
	at := make(map[string]int, len(stored))
	list := stored[:0:0]
	for _, img := range stored {
		i, seen := at[img.ID]
		if !seen {
			at[img.ID] = len(list)
			list = append(list, img)
			continue
		}
		both := &list[i]
		both.Names = slices.Concat(both.Names, img.Names)
		both.Digests = slices.Concat(both.Digests, img.Digests)
	}
	return list
}

// indexable leaves out what is no image of a container: records without a configuration, such as bare manifest lists.
func indexable(img *storage.Image) bool {
	return len(img.ID) == 64 && slices.Contains(img.BigDataNames, "sha256:"+img.ID)
}

// write brings one image's file up to date.
func (s *Store) write(img *storage.Image, all bool) error {
	old, err := s.Index.Load(img.ID)
	if err == nil && !all && slices.Equal(old.RepoDigests, repoDigests(img)) && s.same(old, img) {
		return nil
	}
	entry, err := s.entry(img)
	if err != nil {
		return err
	}
	if err := s.Index.Put(entry); err != nil {
		return fmt.Errorf("cannot write image %s: %w", short(img.ID), err)
	}
	return nil
}

// same compares what can differ between an image and its file when both have one id: where the top layer is, the digest, and whether the
// file is old enough to know no sizes of layers.
func (s *Store) same(old *image.Image, img *storage.Image) bool {
	if old.Digest != img.Digest.String() || (len(old.Layers) == 0) != (img.TopLayer == "") || len(old.Sizes) != len(old.Layers) {
		return false
	}
	if img.TopLayer == "" {
		return true
	}
	dir, err := s.layerDir(img.TopLayer)
	return err == nil && old.Layers[0] == dir
}

// entry is an image's file in the index.
func (s *Store) entry(img *storage.Image) (*image.Image, error) {
	raw, err := s.lib.ImageBigData(img.ID, "sha256:"+img.ID)
	if err != nil {
		return nil, explain("read the configuration of image", short(img.ID), err)
	}
	entry := &image.Image{
		Version: 1, ID: img.ID, Digest: img.Digest.String(), Created: img.Created,
		RepoDigests: repoDigests(img), ReadOnly: img.ReadOnly,
	}
	if err := parseConfig(raw, entry); err != nil {
		return nil, fmt.Errorf("cannot read the configuration of image %s: %w", short(img.ID), err)
	}
	for id := img.TopLayer; id != ""; {
		l, err := s.lib.Layer(id)
		if err != nil {
			return nil, explain("read a layer of image", short(img.ID), err)
		}
		dir, err := s.layerDir(id)
		if err != nil {
			return nil, fmt.Errorf("cannot read image %s: %w", short(img.ID), err)
		}
		size := max(l.UncompressedSize, 0)
		entry.Layers, entry.Sizes = append(entry.Layers, dir), append(entry.Sizes, size)
		entry.Size += size
		id = l.Parent
	}
	return entry, nil
}

// parseConfig reads an image's configuration, OCI's part and Docker's.
func parseConfig(raw []byte, entry *image.Image) error {
	if err := json.Unmarshal(raw, &entry.Config); err != nil {
		return err
	}
	var docker struct {
		Config struct {
			Healthcheck *struct { // image.Health in Docker's spelling
				Test                                          []string
				Interval, Timeout, StartPeriod, StartInterval time.Duration
				Retries                                       int
			}
			Shell   []string
			OnBuild []string
		} `json:"config"`
	}
	if err := json.Unmarshal(raw, &docker); err != nil {
		return err
	}
	entry.Shell, entry.OnBuild = docker.Config.Shell, docker.Config.OnBuild
	if h := docker.Config.Healthcheck; h != nil {
		entry.Health = &image.Health{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
		}
	}
	if entry.Config.Created != nil {
		entry.Created = *entry.Config.Created
	}
	return nil
}

// tagged are the names with a tag, in full.
func tagged(names []string) []string {
	var tags []string
	for _, name := range names {
		if r, err := ref.Parse(name); err == nil && r.Tag != "" {
			tags = append(tags, r.Domain+"/"+r.Path+":"+r.Tag)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// repoDigests are the image's repositories, each with the digests that its registry knows the image by (NameDigest), or, where no registry has it, with
// that of the manifest in the store. That one is of no use elsewhere: a registry's manifest names compressed layers.
func repoDigests(img *storage.Image) []string {
	var list, local []string
	known := map[string]bool{}
	for _, name := range img.Names {
		r, err := ref.Parse(name)
		if err != nil {
			continue
		}
		if repository := r.Name(); r.Digest != "" {
			known[repository] = true
			list = append(list, repository+"@"+r.Digest)
		} else {
			local = append(local, repository)
		}
	}
	for _, repository := range local {
		if !known[repository] && img.Digest != "" {
			list = append(list, repository+"@"+img.Digest.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
