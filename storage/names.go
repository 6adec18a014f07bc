package storage

import (
	"errors"
	"fmt"

	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/ref"
)

// Find looks an image up by what a user typed.
func (s *Store) Find(name string) (*image.Image, error) {
	img, err := s.Index.Find(name)
	if errors.Is(err, image.ErrNotFound) {
		return nil, noSuchImage(name)
	}
	return img, err
}

// Present finds an image like Find, and is nil when there is none. Unlike Find it knows also what is not in the index yet: an
// additional store's images, or those of a command that was killed before it could write them there.
func (s *Store) Present(name string) (*image.Image, error) {
	if err := s.Reconcile(); err != nil {
		return nil, err
	}
	img, err := s.Find(name)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // absence is an answer here
	}
	return img, err
}

func noSuchImage(name string) error {
	return &Error{
		What: "no such image: " + name, Err: ErrNotFound,
		Help: "`skiff images` lists the local ones, `skiff pull` fetches others",
	}
}

// Tag gives an image one more name; the name is taken from the image that has it.
func (s *Store) Tag(source, target string) error {
	img, err := s.Find(source)
	if err != nil {
		return err
	}
	full, err := fullNames([]string{target})
	if err != nil {
		return err
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := s.lib.AddNames(img.ID, full); err != nil {
		return explain("tag image", source, err)
	}
	return s.reconcile(false)
}

// AddNames is Tag by id, for what was just written; the index is written by Close.
func (s *Store) AddNames(id string, names ...string) error {
	full, err := fullNames(names)
	if err != nil {
		return err
	}
	if err := s.lib.AddNames(id, full); err != nil {
		return explain("name image", short(id), err)
	}
	return nil
}

// NameDigest remembers the digest that a repository's registry knows an image by, after it was pulled or pushed; the index is written by Close.
func (s *Store) NameDigest(id, repository, digest string) error {
	r, err := ref.Parse(repository)
	if err != nil {
		return err
	}
	if err := s.lib.AddNames(id, []string{r.Name() + "@" + digest}); err != nil {
		return explain("name image", short(id), err)
	}
	return nil
}

// fullNames checks names that images are to have and writes them in full: docker.io/library/debian:latest.
func fullNames(names []string) ([]string, error) {
	var full []string
	for _, name := range names {
		r, err := ref.Parse(name)
		if err != nil {
			return nil, err
		}
		if r.Digest != "" {
			return nil, fmt.Errorf("cannot use %q as a name: a name cannot have a digest, which follows from the image", name)
		}
		full = append(full, r.String())
	}
	return full, nil
}
