// Package volume is named volumes: directories under <data>/volumes that outlive containers.
//
// Making and listing run anywhere; Remove runs inside the user namespace, since files belong to subordinate ids.
package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
)

// Version is the version of volume.json.
const Version = 1

// Volume is volumes/<name>/volume.json; its files are in volumes/<name>/_data.
type Volume struct {
	Version    int               `json:"version"`
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Created    time.Time         `json:"created"`
	Labels     map[string]string `json:"labels,omitzero"`
	Options    map[string]string `json:"options,omitzero"`
	Anonymous  bool              `json:"anonymous,omitzero"`
	Mountpoint string            `json:"-"` // the directory of its files
}

// Errors tested with errors.Is.
var (
	ErrNotFound = errors.New("no such volume")
	ErrExists   = errors.New("the volume exists with another driver")
	ErrInUse    = errors.New("the volume is in use")
)

const (
	metaFile  = "volume.json"
	dataDir   = "_data"
	freshFile = "fresh" // there until the volume has been filled from an image
)

// Set is <data>/volumes.
type Set struct{ dir string }

// Open names the set under a data directory; nothing is made until a volume is.
func Open(data string) *Set { return &Set{dir: filepath.Join(data, "volumes")} }

// CheckName says whether a name may be one of a volume.
func CheckName(name string) error {
	if err := disk.Name("volume", name); err != nil {
		return fmt.Errorf("%w; a host directory must be an absolute path", err)
	}
	return nil
}

// Create makes a volume; an existing one of the same name and driver is returned with created false. It is made aside and renamed, so a
// volume that can be seen is whole.
func (s *Set) Create(v Volume) (vol *Volume, created bool, err error) {
	if err := CheckName(v.Name); err != nil {
		return nil, false, err
	}
	if v.Driver == "" {
		v.Driver = "local"
	}
	if v.Driver != "local" {
		return nil, false, fmt.Errorf("cannot create volume %s: no volume driver %q; there is local", v.Name, v.Driver)
	}
	if len(v.Options) > 0 {
		if err := checkOptions(v.Options); err != nil {
			return nil, false, fmt.Errorf("cannot create volume %s: %w", v.Name, err)
		}
	}
	if old, err := s.Find(v.Name); err == nil {
		return old, false, nil
	} else if !errors.Is(err, ErrNotFound) {
		return nil, false, err
	}
	v.Version, v.Created = Version, time.Now().UTC()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("cannot create volume %s: %w", v.Name, err)
	}
	// Sweep leaves alone what is being made.
	lock, err := disk.WaitLock(s.gate(), disk.Shared, nil)
	if err != nil {
		return nil, false, fmt.Errorf("cannot create volume %s: %w", v.Name, err)
	}
	defer lock.Unlock()
	temp, err := os.MkdirTemp(s.dir, makingPrefix)
	if err != nil {
		return nil, false, fmt.Errorf("cannot create volume %s: %w", v.Name, err)
	}
	data, err := plain.Marshal(v)
	if err == nil {
		err = os.Mkdir(filepath.Join(temp, dataDir), 0o755)
	}
	if err == nil {
		// Whatever the umask here: the users inside are not those that it is about.
		err = os.Chmod(filepath.Join(temp, dataDir), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(temp, freshFile), nil, 0o600) //nolint:forbidigo // empty, in a directory that is not there yet
	}
	if err == nil {
		err = disk.WriteFile(filepath.Join(temp, metaFile), data, 0o600, disk.Durable)
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(s.dir, v.Name))
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("cannot create volume %s: %w", v.Name, err), os.RemoveAll(temp))
		if old, findErr := s.Find(v.Name); findErr == nil {
			return old, false, nil // somebody else was faster
		}
		return nil, false, err
	}
	vol, err = s.Find(v.Name)
	return vol, true, err
}

// Find reads one volume.
func (s *Set) Find(name string) (*Volume, error) {
	if CheckName(name) != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	file := filepath.Join(s.dir, name, metaFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	v := &Volume{}
	if err == nil {
		if err = plain.Unmarshal(data, v); err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read volume %s: %w; its files are in %s, and `skiff volume rm` deletes them", name, err, filepath.Join(s.dir, name, dataDir))
	}
	v.Name, v.Mountpoint = name, filepath.Join(s.dir, name, dataDir)
	return v, nil
}

// List reads all volumes, by name. Those that cannot be read are joined in the error, beside the good ones.
func (s *Set) List() ([]*Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list volumes: %w", err)
	}
	var all []*Volume
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		v, err := s.Find(e.Name())
		if err == nil {
			all = append(all, v)
		} else if !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(all, func(a, b *Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

// Remove deletes a volume, damaged or not, and its files: aside first, so that it is gone at once or not at all. Inside the user namespace.
func (s *Set) Remove(name string) error {
	if _, err := s.Find(name); errors.Is(err, ErrNotFound) {
		return err
	}
	// A new name in the same directory: that works on a full disk, and removing is how room is made.
	aside := filepath.Join(s.dir, fmt.Sprintf("%s%016x", removedPrefix, rand.Uint64()))
	err := os.Rename(filepath.Join(s.dir, name), aside)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, name) // somebody else was faster
	}
	if err == nil {
		err = os.RemoveAll(aside)
	}
	if err != nil {
		return fmt.Errorf("cannot remove volume %s: %w", name, err)
	}
	return nil
}

// What is being made or removed has a name that no volume can have.
const (
	makingPrefix  = ".tmp-"
	removedPrefix = ".rm-"
)

// gate is the lock that is held while a volume is being made.
func (s *Set) gate() string { return filepath.Join(s.dir, ".making.lock") }

// Sweep deletes what killed commands have left: volumes on their way out, and those that nobody makes any more. Inside the user namespace.
func (s *Set) Sweep() error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	if len(entries) == 0 {
		return err
	}
	lock, lockErr := disk.TryLock(s.gate(), disk.Exclusive) // where it cannot be taken, the next one tries
	if lockErr == nil {
		defer lock.Unlock()
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removedPrefix) || lockErr == nil && strings.HasPrefix(e.Name(), makingPrefix) {
			errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot sweep volumes: %w", err)
	}
	return nil
}

// NeedsCopy says whether the volume has never been filled from an image or used; MarkFilled ends that. Filling is package run's.
func (s *Set) NeedsCopy(name string) (bool, error) {
	_, err := os.Stat(filepath.Join(s.dir, name, freshFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// MarkFilled says that the volume is in use from now on.
func (s *Set) MarkFilled(name string) error {
	if err := os.Remove(filepath.Join(s.dir, name, freshFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot mark volume %s: %w", name, err)
	}
	return nil
}
