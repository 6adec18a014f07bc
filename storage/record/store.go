package record

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
)

// Errors that callers test with errors.Is.
var (
	ErrNotFound  = errors.New("no such container")
	ErrAmbiguous = errors.New("several containers have an id that begins so")
	ErrNameInUse = errors.New("the name is already in use")
	// ErrCorrupt is a record file that cannot be read; its error names the file and the way out.
	ErrCorrupt = errors.New("the record is damaged")
)

// NewID makes a container id: 64 random hex digits.
func NewID() string {
	var b [32]byte
	for {
		rand.Read(b[:])
		if id := hex.EncodeToString(b[:]); hostName(id[:12]) {
			return id
		}
	}
}

// hostName says whether the beginning of an id is a name: it is the container's host name, and the C library takes one of decimal digits for an address, which is then none (as Docker has it).
func hostName(beginning string) bool { return strings.ContainsAny(beginning, "abcdef") }

// Pending is a container being made under tmp-<id>, locked by its maker.
type Pending struct {
	Container *Container
	Dir       string // where its files are being made (containers/tmp-<id>)
	lock      *disk.Lock
	store     *Store
	sync      disk.Sync
}

// Begin makes tmp-<id> and locks it. A --rm container's record need not survive a power loss, so it is not synced.
func (s *Store) Begin(c *Container) (*Pending, error) {
	if c.Name != "" {
		if err := CheckName(c.Name); err != nil {
			return nil, err
		}
	}
	// Between making the directory and locking it a sweeper must not take it for an abandoned one.
	gate, err := disk.WaitLock(s.gate(), disk.Shared, nil)
	if err != nil {
		return nil, err
	}
	defer gate.Unlock()
	p := &Pending{Container: c, Dir: filepath.Join(s.Data, containersDir, makingPrefix+c.ID), store: s, sync: disk.Sync(!c.Config.Remove)}
	if err := os.Mkdir(p.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the container's directory: %w", err)
	}
	lock, err := disk.TryLock(filepath.Join(p.Dir, "making"), disk.Exclusive)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.Dir))
	}
	p.lock = lock
	return p, nil
}

// Promise notes the anonymous volumes that are going to be made for the container: should its maker be killed, Sweep removes those that were. It comes before the first of
// them; a container that is committed keeps its volumes.
func (p *Pending) Promise(volumes []string) error {
	err := disk.WriteFile(filepath.Join(p.Dir, promisedFile), []byte(strings.Join(volumes, "\n")), 0o600, disk.Volatile)
	if err != nil {
		return fmt.Errorf("cannot record the container: %w", err)
	}
	return nil
}

// Commit writes config.json, claims the name (choosing a free random one when it is empty) and renames into place.
func (p *Pending) Commit() error {
	c := p.Container
	if err := p.store.claimName(c); err != nil {
		return err
	}
	data, err := plain.Marshal(c)
	if err == nil {
		err = disk.WriteFile(filepath.Join(p.Dir, configFile), data, 0o600, p.sync)
	}
	if err == nil {
		err = os.Rename(p.Dir, p.store.Dir(c.ID))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot record the container: %w", err), p.store.freeName(c.Name, c.ID))
	}
	p.Dir = p.store.Dir(c.ID)
	return p.lock.Unlock()
}

// Abort removes what Begin made.
func (p *Pending) Abort() error {
	return errors.Join(os.RemoveAll(p.Dir), p.lock.Unlock())
}

// Update changes what a container's record says: change is given it as it is, and what it leaves is written. Changes wait for one another.
func (s *Store) Update(id string, change func(c *Container) error) error {
	lock, err := disk.WaitLock(filepath.Join(s.Dir(id), updatingFile), disk.Exclusive, nil)
	if err != nil {
		if _, dirErr := os.Stat(s.Dir(id)); dirErr != nil {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		return err
	}
	defer lock.Unlock()
	c, err := s.Load(id)
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	data, err := plain.Marshal(c)
	if err != nil {
		return err
	}
	return disk.WriteFile(filepath.Join(s.Dir(id), configFile), data, 0o600, disk.Durable)
}

// Dir is the directory of a container's record.
func (s *Store) Dir(id string) string { return filepath.Join(s.Data, containersDir, id) }

// runDigits is how many digits of its id name a container's runtime directory: a socket's path has 108 bytes.
const runDigits = 16

// RunDir is a container's runtime directory.
func (s *Store) RunDir(id string) string { return filepath.Join(s.Run, id[:min(runDigits, len(id))]) }

// Find resolves a full id, a name, or an unambiguous id prefix, in this order.
func (s *Store) Find(nameOrID string) (*Container, error) {
	if isHex(nameOrID) && len(nameOrID) == 64 {
		return s.Load(nameOrID)
	}
	if CheckName(nameOrID) == nil {
		if id, err := s.holder(nameOrID); err == nil {
			c, err := s.Load(id)
			if !errors.Is(err, ErrNotFound) {
				return c, err
			}
		}
	}
	id, err := s.FindID(nameOrID)
	if err != nil {
		return nil, err
	}
	return s.Load(id)
}

// FindID is Find without reading the record: the way to one that is damaged.
func (s *Store) FindID(nameOrID string) (string, error) {
	if CheckName(nameOrID) == nil {
		if id, err := s.holder(nameOrID); err == nil {
			if _, err := os.Stat(s.Dir(id)); err == nil {
				return id, nil
			}
		}
	}
	found := ""
	if isHex(nameOrID) {
		ids, err := s.ids()
		if err != nil {
			return "", err
		}
		for _, id := range ids {
			if strings.HasPrefix(id, nameOrID) {
				if found != "" {
					return "", fmt.Errorf("cannot find container %q: %w", nameOrID, ErrAmbiguous)
				}
				found = id
			}
		}
	}
	if found == "" {
		return "", fmt.Errorf("%w: %s", ErrNotFound, nameOrID)
	}
	return found, nil
}

// Load reads one record by full id.
func (s *Store) Load(id string) (*Container, error) {
	c, err := load(s.Dir(id), id)
	if errors.Is(err, os.ErrNotExist) {
		if _, dirErr := os.Stat(s.Dir(id)); dirErr != nil {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
		}
	}
	return c, err
}

// load reads the record in dir, which must be that of id.
func load(dir, id string) (*Container, error) {
	file := filepath.Join(dir, configFile)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, corrupt(id, err)
	}
	c := &Container{}
	if err := plain.Unmarshal(data, c); err != nil {
		return nil, corrupt(id, fmt.Errorf("%s: %w", file, err))
	}
	if c.Version > Version {
		return nil, fmt.Errorf("cannot read container %s: it was made by a newer skiff (record version %d)", id[:min(12, len(id))], c.Version)
	}
	if c.ID != id {
		return nil, corrupt(id, fmt.Errorf("%s: it is of container %q", file, c.ID))
	}
	// A name that was changed since lies beside the record.
	if name, err := os.ReadFile(filepath.Join(dir, nameFile)); err == nil {
		c.Name = string(name)
	}
	if err := CheckName(c.Name); err != nil && c.Name != "" {
		return nil, corrupt(id, fmt.Errorf("%s: %w", dir, err))
	}
	return c, nil
}

func corrupt(id string, err error) error {
	return fmt.Errorf("cannot read container %s: %w: %w; remove it with `skiff rm -f %s`", id[:min(12, len(id))], ErrCorrupt, err, id[:min(12, len(id))])
}

// ids lists the full ids of all containers.
func (s *Store) ids() ([]string, error) {
	d, err := os.Open(filepath.Join(s.Data, containersDir))
	if err != nil {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return len(n) != 64 || !isHex(n) }), nil
}

// List reads all records, newest first. Records that cannot be read are joined in the error, beside the good ones.
func (s *Store) List() ([]*Container, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	all := make([]*Container, len(ids))
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), 1+len(ids)/16)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(ids); i += workers {
				all[i], errs[i] = s.Load(ids[i])
				if errors.Is(errs[i], ErrNotFound) {
					errs[i] = nil // removed meanwhile
				}
			}
		})
	}
	wg.Wait()
	all = slices.DeleteFunc(all, func(c *Container) bool { return c == nil })
	slices.SortFunc(all, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return all, errors.Join(errs...)
}

// Retire takes a container out of sight: renames it to rm-<id> and frees its name. What is in it is deleted by Sweep. It works on damaged records too.
func (s *Store) Retire(id string) error { return s.retire(id, s.retired(id)) }

// RetireWithVolumes is Retire of a container whose anonymous volumes go with it: Sweep removes them too, whoever calls it.
func (s *Store) RetireWithVolumes(id string) error {
	return s.retire(id, filepath.Join(s.Data, containersDir, retiredPrefix+withVolumes+id))
}

func (s *Store) retire(id, to string) error {
	if err := os.Rename(s.Dir(id), to); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		return fmt.Errorf("cannot remove container %s: %w", id, err)
	}
	return s.freeNamesOf(id, to)
}

// Sweep deletes every tmp- and rm- directory that nobody holds, dangling names, and what was left of this user's other boots. remove deletes one
// directory tree, and removeVolume an anonymous volume that goes with its container; one that is not there is no error of either. It runs inside the user namespace: files belong
// to subordinate ids.
func (s *Store) Sweep(remove, removeVolume func(name string) error) error {
	dir := filepath.Join(s.Data, containersDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot sweep: %w", err)
	}
	var errs []error
	gate, gateErr := disk.TryLock(s.gate(), disk.Exclusive)
	if gateErr == nil {
		defer gate.Unlock()
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), retiredPrefix+withVolumes):
			// What cannot be read names no volumes: `volume prune` finds them.
			if c, err := load(path, strings.TrimPrefix(e.Name(), retiredPrefix+withVolumes)); err == nil {
				if err := eachVolume(c.Anonymous, removeVolume); err != nil {
					errs = append(errs, err)
					continue
				}
			}
			errs = append(errs, remove(path))
		case strings.HasPrefix(e.Name(), retiredPrefix):
			errs = append(errs, remove(path))
		case strings.HasPrefix(e.Name(), makingPrefix) && gateErr == nil:
			if held, err := disk.Locked(filepath.Join(path, "making")); err != nil || held {
				continue
			}
			promised, err := os.ReadFile(filepath.Join(path, promisedFile))
			if err == nil {
				err = eachVolume(strings.Fields(string(promised)), removeVolume)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, remove(path))
		}
	}
	if gateErr == nil {
		errs = append(errs, s.freeDangling())
	}
	boots, err := os.ReadDir(filepath.Dir(s.Run))
	if err == nil {
		for _, b := range boots {
			if b.IsDir() && len(b.Name()) == 8 && isHex(b.Name()) && b.Name() != filepath.Base(s.Run) {
				errs = append(errs, os.RemoveAll(filepath.Join(filepath.Dir(s.Run), b.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

func eachVolume(names []string, remove func(name string) error) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, remove(name))
	}
	return errors.Join(errs...)
}

// DeleteRetired deletes what is left of one retired container.
func (s *Store) DeleteRetired(id string, remove func(dir string) error) error {
	return remove(s.retired(id))
}

func (s *Store) retired(id string) string {
	return filepath.Join(s.Data, containersDir, retiredPrefix+id)
}

// gate is the lock that keeps sweepers from directories that are just being made.
func (s *Store) gate() string { return filepath.Join(s.Data, "making.lock") }

// Retired says whether there is anything for Sweep to do.
func (s *Store) Retired() bool {
	d, err := os.Open(filepath.Join(s.Data, containersDir))
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return slices.ContainsFunc(names, func(n string) bool {
		return strings.HasPrefix(n, retiredPrefix) || strings.HasPrefix(n, makingPrefix)
	})
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return s != ""
}
