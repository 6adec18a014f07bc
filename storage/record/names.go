package record

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/skiff-containers/skiff/storage/disk"
)

// The words of names that skiff chooses.
var (
	adjectives = [...]string{"able", "amber", "brave", "bright", "calm", "clever", "coral", "deft", "eager", "early", "fair", "fleet", "gentle", "glad", "golden", "happy", "hardy", "keen", "kind", "light", "lively", "loyal", "lucid", "merry", "mild", "noble", "open", "patient", "quick", "quiet", "ready", "serene", "sharp", "silver", "spry", "steady", "sunny", "swift", "tidal", "trim", "vivid", "warm", "wise", "witty"}
	surnames   = [...]string{"agnesi", "amundsen", "banks", "bellingshausen", "bering", "bonpland", "cook", "cousteau", "curie", "darwin", "drake", "earle", "euler", "franklin", "galilei", "germain", "goodall", "hodgkin", "hopper", "humboldt", "hypatia", "johnson", "kepler", "knuth", "kovalevskaya", "lamarr", "lovelace", "magellan", "mawson", "meitner", "mercator", "nansen", "noether", "pascal", "ritchie", "ross", "sagan", "shackleton", "slocum", "somerville", "stroustrup", "tasman", "thompson", "torvalds", "turing", "wegener", "wilson", "zheng"}
)

// CheckName says whether a name may be one of a container.
func CheckName(name string) error { return disk.Name("container", name) }

func (s *Store) nameLink(name string) string { return filepath.Join(s.Data, namesDir, name) }

// pointTo is what the link of a name says: the id in base64, 43 characters. With the 64 of the id itself the link would take a block on ext4 and its like (more than 59 do
// not fit into an inode), and the removal of a --rm container would wait for the disk.
func pointTo(id string) string {
	raw, err := hex.DecodeString(id)
	if err != nil {
		return id
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// holder is the id that a name's link says, in either form: older ones have it as it is.
func (s *Store) holder(name string) (string, error) {
	text, err := os.Readlink(s.nameLink(name))
	if err != nil {
		return "", err
	}
	if raw, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(raw) == 32 {
		return hex.EncodeToString(raw), nil
	}
	return text, nil
}

// claimName makes names/<name> -> id, which fails if anybody has the name: symlink(2) is atomic. A name whose container is gone is taken over.
func (s *Store) claimName(c *Container) error {
	if c.Name != "" {
		return s.claim(c.Name, c.ID)
	}
	for range 1000 {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + surnames[rand.IntN(len(surnames))]
		if n := rand.IntN(4); n > 0 {
			name += fmt.Sprint(rand.IntN(100))
		}
		err := s.claim(name, c.ID)
		if err == nil {
			c.Name = name
		}
		if !errors.Is(err, ErrNameInUse) {
			return err
		}
	}
	c.Name = c.ID[:12]
	return s.claim(c.Name, c.ID)
}

func (s *Store) claim(name, id string) error {
	for range 3 {
		err := os.Symlink(pointTo(id), s.nameLink(name))
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("cannot claim the name %s: %w", name, err)
		}
		holder, err := s.holder(name)
		if err != nil {
			continue // freed meanwhile
		}
		if s.lives(holder) {
			return fmt.Errorf("%w: %q belongs to container %s; remove or rename that one, or choose another name", ErrNameInUse, name, holder[:min(12, len(holder))])
		}
		if err := s.freeName(name, holder); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %q", ErrNameInUse, name)
}

// lives says whether a container of this id exists or is being made.
func (s *Store) lives(id string) bool {
	if _, err := os.Lstat(s.Dir(id)); err == nil {
		return true
	}
	held, err := disk.Locked(filepath.Join(s.Data, containersDir, makingPrefix+id, "making"))
	if err == nil && held {
		return true
	}
	// It may have been renamed between the two looks.
	_, err = os.Lstat(s.Dir(id))
	return err == nil
}

// asidePrefix begins the names that freeName is looking at; no container's name begins so.
const asidePrefix = "."

// freeName removes a name if it is still id's. Moving it aside first makes the look and the removal one step.
func (s *Store) freeName(name, id string) error {
	aside := s.nameLink(fmt.Sprintf("%s%s-%08x", asidePrefix, id[:min(12, len(id))], rand.Uint32()))
	if err := os.Rename(s.nameLink(name), aside); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("cannot free the name %s: %w", name, err)
	}
	if holder, err := s.holder(filepath.Base(aside)); err == nil && holder != id {
		// Somebody else's by now: give it back unless yet another has claimed it.
		if err := os.Link(aside, s.nameLink(name)); err != nil && !errors.Is(err, os.ErrExist) {
			return errors.Join(fmt.Errorf("cannot give back the name %s: %w", name, err), os.Remove(aside))
		}
	}
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) { // Sweep may have been faster
		return fmt.Errorf("cannot free the name %s: %w", name, err)
	}
	return nil
}

// freeNamesOf frees the name of a container that has been retired to dir: the one its record says, or when that cannot be read, whichever points to it. A name that an
// interrupted Rename left behind dangles from now on: whoever wants it takes it over, and Sweep removes it.
func (s *Store) freeNamesOf(id, dir string) error {
	if c, err := load(dir, id); err == nil && CheckName(c.Name) == nil {
		return s.freeName(c.Name, id)
	}
	return s.eachName(func(name, holder string) error {
		if holder != id || strings.HasPrefix(name, asidePrefix) {
			return nil
		}
		return s.freeName(name, id)
	})
}

// freeDangling frees the names of containers that are no more.
func (s *Store) freeDangling() error {
	return s.eachName(func(name, holder string) error {
		switch {
		case s.lives(holder):
			return nil
		case strings.HasPrefix(name, asidePrefix):
			if err := os.Remove(s.nameLink(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("cannot free a name: %w", err)
			}
			return nil
		}
		return s.freeName(name, holder)
	})
}

// eachName calls f for every name, also for those that freeName has moved aside.
func (s *Store) eachName(f func(name, holder string) error) error {
	entries, err := os.ReadDir(filepath.Join(s.Data, namesDir))
	if err != nil {
		return fmt.Errorf("cannot read the names: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if holder, err := s.holder(e.Name()); err == nil {
			errs = append(errs, f(e.Name(), holder))
		}
	}
	return errors.Join(errs...)
}

// Rename changes a container's name; the new one is claimed before the old one is freed.
func (s *Store) Rename(id, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	c, err := s.Load(id)
	if err != nil {
		return err
	}
	if err := s.claim(name, id); err != nil {
		return err
	}
	if err := disk.WriteFile(filepath.Join(s.Dir(id), nameFile), []byte(name), 0o600, disk.Durable); err != nil {
		return errors.Join(err, s.freeName(name, id))
	}
	return s.freeName(c.Name, id)
}
