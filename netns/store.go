package netns

// The set of a user's networks: one file each, made with link(2), so that a name is claimed at once and a network that can be seen is whole.

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Store is one user's networks and the addresses in use on them.
type Store struct {
	dir   string                     // <data>/networks: <name>.json, and the lock
	run   string                     // <runtime>/net: one directory for each network
	hosts func() Routes              // what the host's routes and resolvers take; asked when a subnet is chosen
	root  bool                       // the host's interfaces are the user's
	links func(file string) []string // reads the interfaces of a namespace
}

// Open names the store under a data directory and a runtime directory (record.Store's Data and Run). Nothing is made until a network is.
func Open(data, runtime string) *Store {
	return &Store{dir: filepath.Join(data, "networks"), run: filepath.Join(runtime, "net"), hosts: HostRoutes, root: os.Geteuid() == 0, links: interfacesOf}
}

const suffix = ".json"

func (s *Store) file(name string) string { return filepath.Join(s.dir, name+suffix) }

// lock keeps others from choosing a subnet or removing a network meanwhile.
func (s *Store) lock() (*disk.Lock, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot lock the networks: %w", err)
	}
	return disk.WaitLock(filepath.Join(s.dir, ".lock"), disk.Exclusive, nil)
}

// Create makes a network: its name, driver and options are checked, what it lacks of subnets, gateways and the id is filled in, and it is on disk when Create returns.
// ErrExists, ErrOverlap and ErrPredefined can be asked for. The default network can be made too, with subnets of the user's own, before its first use.
func (s *Store) Create(n Network) (made *Network, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot create network %s: %w", n.Name, err)
		}
	}()
	if err := CheckName(n.Name); err != nil {
		return nil, err
	}
	if n.Driver == "" {
		n.Driver = DriverBridge
	}
	if n.Name == Host || n.Name == None || n.Name == Bridge && n.Driver != DriverBridge {
		return nil, ErrPredefined
	}
	if err := checkDriver(&n); err != nil {
		return nil, err
	}
	if err := s.checkParent(&n); err != nil {
		return nil, err
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	others, err := s.List()
	if err != nil {
		return nil, err // a network that cannot be read may have the same subnet
	}
	if slices.ContainsFunc(others, func(o *Network) bool { return o.Name == n.Name && len(o.Subnets) > 0 }) {
		return nil, fmt.Errorf("%w; remove it first, or choose another name", ErrExists)
	}
	s.sweep(others)
	if n.OverBridge() {
		if !slices.ContainsFunc(others, func(o *Network) bool { return o.ID == n.ParentID }) {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, n.Parent()) // it was removed meanwhile
		}
	} else if err := s.plan(&n, others); err != nil {
		return nil, err
	}
	n.Version, n.Created = Version, time.Now().UTC()
	if n.Name == Bridge {
		n.ID = predefined(Bridge).ID
	} else {
		n.ID = newID()
	}
	return &n, s.write(&n)
}

// write puts a network's file where nobody has one.
func (s *Store) write(n *Network) error {
	data, err := json.Marshal(n.bare())
	if err != nil {
		return err
	}
	temp := filepath.Join(s.dir, ".new-"+n.ID)
	if err := disk.WriteFile(temp, data, 0o600, disk.Durable); err != nil {
		return err
	}
	err = os.Link(temp, s.file(n.Name))
	if errors.Is(err, os.ErrExist) {
		err = ErrExists
	}
	return errors.Join(err, os.Remove(temp), disk.SyncDir(s.dir))
}

// sweep deletes what killed processes left of networks being made and removed; the holder of the lock calls it.
func (s *Store) sweep(all []*Network) {
	left, _ := filepath.Glob(filepath.Join(s.dir, ".[nt]*-*")) // the pattern is well-formed
	for _, f := range left {
		_ = os.Remove(f) // the next one tries again
	}
	dirs, _ := os.ReadDir(s.run) // nobody had a container on a network yet
	for _, d := range dirs {
		known := func(n *Network) bool { return d.Name() == filepath.Base(s.addressDir(n.ID)) }
		if len(d.Name()) == digits && isHex(d.Name()) && !slices.ContainsFunc(all, known) {
			_ = os.RemoveAll(filepath.Join(s.run, d.Name())) // likewise
		}
	}
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Get finds a network by name, id or unambiguous beginning of an id. The default network gets its subnet here, at its first use, and another one when the host has got a route that
// overlaps it (a VPN, mostly) while no container is on it.
func (s *Store) Get(nameOrID string) (*Network, error) {
	if nameOrID == "" || nameOrID == Default {
		nameOrID = Bridge
	}
	n, err := s.find(nameOrID)
	switch {
	case err != nil || n.Name != Bridge || len(n.Subnets) > 0 && !n.Chosen:
		return n, err
	case len(n.Subnets) > 0:
		return s.evade(n)
	}
	n, err = s.Create(Network{Name: Bridge, Chosen: true})
	if errors.Is(err, ErrExists) {
		return s.load(Bridge) // somebody else used it first
	}
	return n, err
}

// Find is Get that writes nothing: the default network may have no subnet yet.
func (s *Store) Find(nameOrID string) (*Network, error) {
	if nameOrID == Default {
		nameOrID = Bridge
	}
	return s.find(nameOrID)
}

func (s *Store) find(nameOrID string) (*Network, error) {
	if CheckName(nameOrID) == nil {
		n, err := s.load(nameOrID)
		if !errors.Is(err, ErrNotFound) {
			return n, err
		}
	}
	if !isHex(nameOrID) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, nameOrID)
	}
	all, err := s.List()
	var found *Network
	for _, n := range all {
		if n.ID == nameOrID {
			return n, nil
		}
		if strings.HasPrefix(n.ID, nameOrID) {
			if found != nil {
				return nil, fmt.Errorf("cannot find network %q: %w", nameOrID, ErrAmbiguous)
			}
			found = n
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, errors.Join(fmt.Errorf("%w: %s", ErrNotFound, nameOrID), err)
}

// load reads one network by name.
func (s *Store) load(name string) (*Network, error) {
	file := s.file(name)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if Predefined(name) {
			return predefined(name), nil
		}
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	n := &Network{}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(data))
		if err = d.Decode(n); err == nil && (n.Name != name || len(n.ID) != 64 || !isHex(n.ID)) {
			err = fmt.Errorf("it is of network %q", n.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read network %s: %w: %s: %w; `skiff network rm %s` removes it", name, ErrCorrupt, file, err, name)
	}
	if n.Version > Version {
		return nil, fmt.Errorf("cannot read network %s: it was made by a newer skiff (version %d)", name, n.Version)
	}
	if n.OverBridge() {
		if p, err := s.load(n.Parent()); err == nil && p.ID == n.ParentID {
			n.inherit(p)
		}
	}
	return n, nil
}

// List reads all networks by name, the predefined ones among them. Those that cannot be read are joined in the error, beside the good ones.
func (s *Store) List() ([]*Network, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot list networks: %w", err)
	}
	names := []string{Bridge, Host, None}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if ok && CheckName(name) == nil && !Predefined(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var all []*Network
	var errs []error
	for _, name := range names {
		n, err := s.load(name)
		if err == nil {
			all = append(all, n)
		} else if !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// Remove deletes a network that no container is on; a damaged one by its name. ErrNotFound, ErrPredefined and ErrInUse can be asked for.
func (s *Store) Remove(nameOrID string) (name string, err error) {
	n, err := s.find(nameOrID)
	if errors.Is(err, ErrCorrupt) && CheckName(nameOrID) == nil {
		if err := os.Remove(s.file(nameOrID)); err != nil {
			return "", fmt.Errorf("cannot remove network %s: %w", nameOrID, err)
		}
		return nameOrID, nil
	}
	if err != nil {
		return "", err
	}
	if Predefined(n.Name) {
		return "", fmt.Errorf("cannot remove network %s: %w", n.Name, ErrPredefined)
	}
	names, err := s.lock() // against networks that are being made over this one
	if err != nil {
		return "", err
	}
	defer names.Unlock()
	over, err := s.over(n)
	if err != nil {
		return "", fmt.Errorf("cannot remove network %s: %w", n.Name, err)
	}
	if len(over) > 0 {
		return "", fmt.Errorf("cannot remove network %s: %w: the networks %s are over it", n.Name, ErrInUse, strings.Join(over, ", "))
	}
	lock, err := s.lockUnused(n)
	switch {
	case err == nil:
		defer lock.Unlock()
	case !n.OverBridge() || !errors.Is(err, ErrNotFound): // nobody comes to a network whose parent has gone
		return "", fmt.Errorf("cannot remove network %s: %w", n.Name, err)
	}
	// The file first: an address is given only after a look at it, under the same lock.
	if err := os.Remove(s.file(n.Name)); err != nil {
		return "", fmt.Errorf("cannot remove network %s: %w", n.Name, err)
	}
	if err := errors.Join(disk.SyncDir(s.dir), os.RemoveAll(s.addressDir(n.ID))); err != nil {
		return "", fmt.Errorf("cannot remove network %s: %w", n.Name, err)
	}
	return n.Name, nil
}

// leaving is how long Remove waits for containers that are no more to have left the network: whoever ran one with --rm hears of its end a moment before.
const leaving = 2 * time.Second

// lockUnused is lockAddresses of a network that no container is on.
func (s *Store) lockUnused(n *Network) (*disk.Lock, error) {
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) { //nolint:forbidigo // the end of another process's work
		lock, err := s.lockAddresses(n)
		if err != nil {
			return nil, err
		}
		users, err := s.endpoints(n)
		if err == nil && len(users) == 0 {
			return lock, nil
		}
		var by []string
		over := true
		for _, e := range users {
			by = append(by, e.Name)
			if _, statErr := os.Lstat(filepath.Join(filepath.Dir(s.dir), "containers", e.Container)); statErr == nil {
				over = false
			}
		}
		if err == nil && (!over || time.Since(start) > leaving) {
			err = fmt.Errorf("%w by %s", ErrInUse, strings.Join(by, ", "))
		}
		if err = errors.Join(err, lock.Unlock()); err != nil {
			return nil, err
		}
	}
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return s != ""
}
