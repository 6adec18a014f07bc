package netns

// Who has which address. In <runtime>/net/<network's 16 digits>/ lie, for each container on the network, <its 16 digits>.json (an Endpoint) and a symbolic link
// a-<address> -> <its 16 digits> for each of its addresses. A link counts when the endpoint's file names that address and somebody holds the endpoint's lock, so
// that giving an address looks at few files however many containers there are. `next` is a hint of where to look first; everything is written under `lock`.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

const digits = 16 // of an id, in the names of the runtime directory

func short(id string) string { return id[:min(digits, len(id))] }

func (s *Store) addressDir(network string) string { return filepath.Join(s.run, short(network)) }

func (s *Store) endpointFile(network, container string) string {
	return filepath.Join(s.addressDir(network), short(container)+suffix)
}

func (s *Store) link(network string, a netip.Addr) string {
	return filepath.Join(s.addressDir(network), "a-"+a.String())
}

// lockAddresses keeps others from giving and freeing addresses of the network meanwhile; ErrNotFound when the network has gone.
// Of a network over another one those are its parent's.
func (s *Store) lockAddresses(n *Network) (*disk.Lock, error) {
	book, err := s.book(n)
	if err != nil {
		return nil, err
	}
	dir := s.addressDir(book.ID)
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot lock the addresses of network %s: %w", n.Name, err)
		}
		file := filepath.Join(dir, "lock")
		lock, err := disk.WaitLock(file, disk.Exclusive, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue // the directory went with a network of this id
		}
		if err != nil {
			return nil, err
		}
		err = s.still(n)
		if err != nil && book != n && s.still(book) == nil {
			return nil, errors.Join(err, lock.Unlock()) // its parent goes on
		}
		if err == nil && book != n {
			err = s.still(book)
		}
		if err != nil {
			return nil, errors.Join(err, lock.Unlock(), os.RemoveAll(dir))
		}
		mine, err1 := lock.File().Stat()
		there, err2 := os.Stat(file)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return lock, nil
		}
		if err := lock.Unlock(); err != nil {
			return nil, err
		}
	}
}

// still says ErrNotFound when the network has gone, or has other subnets now.
func (s *Store) still(n *Network) error {
	now, err := s.load(n.Name)
	if err == nil && (now.ID != n.ID || !now.Alike(n)) {
		err = fmt.Errorf("%w: %s", ErrNotFound, n.Name) // another one has the name now
	}
	return err
}

// Attach gives a container a place in a network: e.Container, e.Name and e.Alive must be set; IPv4, IPv6 and MAC are kept when they are and chosen when they are not.
// The caller holds the lock e.Alive; when it dies the place is free. A container that had a place on the network loses it for the new one.
// ErrAddressInUse, ErrOutside, ErrFull and ErrNotFound can be asked for.
func (s *Store) Attach(n *Network, e Endpoint) (*Endpoint, error) {
	if err := s.check(n, &e); err != nil {
		return nil, fmt.Errorf("cannot connect to network %s: %w", n.Name, err)
	}
	lock, err := s.lockAddresses(n)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	book, err := s.book(n)
	if err != nil {
		return nil, err
	}
	e.Version, e.ID, e.Network, e.Created = Version, newID(), book.ID, time.Now().UTC()
	if book != n {
		e.Via = n.ID
	}
	if err := s.attach(book, &e); err != nil {
		return nil, fmt.Errorf("cannot connect to network %s: %w", n.Name, err)
	}
	return &e, nil
}

// CheckAddresses says whether a container may ask for these addresses on a network, whoever has them now.
func (s *Store) CheckAddresses(n *Network, four, six netip.Addr) error {
	if err := s.check(n, &Endpoint{IPv4: four, IPv6: six, Container: newID(), Alive: "-"}); err != nil {
		return fmt.Errorf("cannot connect to network %s: %w", n.Name, err)
	}
	return nil
}

// check says whether the addresses asked for are the network's to give.
func (s *Store) check(n *Network, e *Endpoint) error {
	for i, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if !a.IsValid() {
			continue
		}
		if a.Is4() != (i == 0) {
			return fmt.Errorf("%w: %s is an address of the other family", ErrOutside, a)
		}
		sub, ok := n.SubnetOf(a)
		switch {
		case !ok:
			return fmt.Errorf("%w: %s is in none of its subnets (%s)", ErrOutside, a, prefixes(n))
		case !usable(sub.Prefix, a):
			return fmt.Errorf("%w: %s is not for hosts", ErrOutside, a)
		case a == sub.Gateway:
			return fmt.Errorf("%w: %s is the gateway's", ErrAddressInUse, a)
		}
	}
	if e.MAC != "" {
		m, err := parseMAC(e.MAC)
		if err != nil {
			return err
		}
		e.MAC = m.String()
	}
	if len(e.Container) < digits || e.Alive == "" {
		return fmt.Errorf("the container's id and lock are not known")
	}
	return nil
}

func prefixes(n *Network) string {
	var words []string
	for _, s := range n.Subnets {
		words = append(words, s.Prefix.String())
	}
	return strings.Join(words, ", ")
}

// attach claims the addresses and writes the endpoint; the holder of the lock calls it.
func (s *Store) attach(n *Network, e *Endpoint) error {
	if err := s.detach(n.ID, e.Container); err != nil {
		return err
	}
	asked := e.MAC != ""
	if asked {
		if err := s.checkMAC(n, e.MAC); err != nil {
			return err
		}
	}
	var claimed []string
	undo := func(err error) error {
		for _, link := range claimed {
			err = errors.Join(err, os.Remove(link))
		}
		return err
	}
	for _, family := range []struct {
		to    *netip.Addr
		first func() (Subnet, bool)
	}{{&e.IPv4, n.Subnet4}, {&e.IPv6, n.Subnet6}} {
		sub, has := family.first()
		if !has {
			continue
		}
		var err error
		if family.to.IsValid() {
			err = s.claim(n.ID, *family.to, e.Container)
		} else {
			*family.to, err = s.choose(n, sub, e.Container)
		}
		if err != nil {
			return undo(err)
		}
		claimed = append(claimed, s.link(n.ID, *family.to))
	}
	if !asked {
		e.MAC = s.chooseMAC(n.ID, e)
	}
	data, err := json.Marshal(e)
	if err == nil && asked {
		if err = s.noteMAC(n.ID, e); err == nil {
			claimed = append(claimed, s.macLink(n.ID, e.MAC))
		}
	}
	if err == nil {
		err = disk.WriteFile(s.endpointFile(n.ID, e.Container), data, 0o600, disk.Volatile)
	}
	if err != nil {
		return undo(err)
	}
	return nil
}

// claim makes the link of one address, unless somebody alive has it.
func (s *Store) claim(network string, a netip.Addr, container string) error {
	link := s.link(network, a)
	for range 2 {
		err := os.Symlink(short(container), link)
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		if holder := s.holder(network, a); holder != nil {
			return fmt.Errorf("%w: %s is %s's", ErrAddressInUse, a, holder.Name)
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrAddressInUse, a)
}

// holder is the endpoint that has an address, nil when nobody alive does.
func (s *Store) holder(network string, a netip.Addr) *Endpoint {
	container, err := os.Readlink(s.link(network, a))
	if err != nil {
		return nil
	}
	e, err := s.load1(filepath.Join(s.addressDir(network), container+suffix))
	if err != nil || e.IPv4 != a && e.IPv6 != a {
		return nil // its maker did not come to the end
	}
	if alive, err := disk.Lives(e.Alive); err == nil && !alive {
		return nil
	}
	return e
}

func (s *Store) load1(file string) (*Endpoint, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return e, nil
}

// choose claims an address that nobody has: the one behind that given last, and so on around, so that an address is not another container's a moment later.
func (s *Store) choose(n *Network, sub Subnet, container string) (netip.Addr, error) {
	in := sub.Prefix
	if sub.Range.IsValid() {
		in = sub.Range
	}
	hint := filepath.Join(s.addressDir(n.ID), "next4")
	if in.Addr().Is6() {
		hint = filepath.Join(s.addressDir(n.ID), "next6")
	}
	start := in.Addr()
	if data, err := os.ReadFile(hint); err == nil {
		if a, err := netip.ParseAddr(string(data)); err == nil && in.Contains(a) {
			start = a
		}
	}
	a := start
	for range most {
		free := usable(sub.Prefix, a) && a != sub.Gateway && !isReserved(sub, a)
		if free {
			err := s.claim(n.ID, a, container)
			if err == nil {
				// Only a hint: a torn one is not an address, and the search begins at the first.
				_ = os.WriteFile(hint, []byte(a.Next().String()), 0o600) //nolint:forbidigo // as said
				return a, nil
			}
			if !errors.Is(err, ErrAddressInUse) {
				return netip.Addr{}, err
			}
		}
		if a = a.Next(); !in.Contains(a) {
			a = in.Addr()
		}
		if a == start {
			break
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: all of %s are taken", ErrFull, in)
}

// most is how many addresses choose looks at before it gives up.
const most = 1 << 17

func isReserved(sub Subnet, a netip.Addr) bool {
	for _, r := range sub.Reserved {
		if r == a {
			return true
		}
	}
	return false
}

// Detach frees a container's place in a network. One that it does not have is no error.
func (s *Store) Detach(n *Network, container string) error {
	lock, err := s.lockAddresses(n)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	e, err := s.Endpoint(n, container)
	if err == nil && e == nil && n.OverBridge() {
		return nil // it is on the parent, or not at all
	}
	return s.detach(bookID(n), container)
}

// bookID is the id of the network whose addresses n's containers get.
func bookID(n *Network) string {
	if n.OverBridge() {
		return n.ParentID
	}
	return n.ID
}

// detach removes the endpoint before its links: a link without its endpoint's word counts for nothing.
func (s *Store) detach(network, container string) error {
	file := s.endpointFile(network, container)
	e, err := s.load1(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{os.Remove(file)}
	if err == nil {
		for _, link := range []string{s.link(network, e.IPv4), s.link(network, e.IPv6), s.macLink(network, e.MAC)} {
			// It may have been given to another one after this one's death, or not be there: not every endpoint has all three.
			if holder, err := os.Readlink(link); err == nil && holder == short(container) {
				errs = append(errs, os.Remove(link))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot free the address of container %s: %w", container[:min(12, len(container))], err)
	}
	return nil
}

// Forget frees the places of a container that is no more, on whichever networks. A monitor that was killed has left them: an endpoint, a file that it was writing, or links whose endpoint was not written yet or
// had been removed already.
func (s *Store) Forget(container string) error {
	networks, err := os.ReadDir(s.run)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, n := range networks {
		if left, err := s.left(n.Name(), container); len(left) > 0 || err != nil {
			errs = append(errs, err, s.forget(n.Name(), container))
		}
	}
	return errors.Join(errs...)
}

// left are the files of a container on a network, which is given by the name of its directory.
func (s *Store) left(network, container string) (files []string, err error) {
	dir := s.addressDir(network)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // it went meanwhile
		return nil, err
	}
	own := short(container)
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if e.Type() == os.ModeSymlink {
			if holder, err := os.Readlink(file); err == nil && holder == own {
				files = append(files, file)
			}
		} else if e.Name() == own+suffix || strings.HasPrefix(e.Name(), ".tmp-"+own+suffix+"-") {
			files = append(files, file)
		}
	}
	return files, nil
}

func (s *Store) forget(network, container string) error {
	lock, err := disk.WaitLock(filepath.Join(s.addressDir(network), "lock"), disk.Exclusive, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the network went meanwhile
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	left, err := s.left(network, container)
	errs := []error{err}
	for _, file := range left {
		if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Update changes an endpoint that is there (its pid, its interface's name). Its addresses stay.
func (s *Store) Update(n *Network, container string, change func(*Endpoint)) error {
	lock, err := s.lockAddresses(n)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	file := s.endpointFile(bookID(n), container)
	e, err := s.load1(file)
	if err != nil {
		return fmt.Errorf("cannot change the place of container %s on network %s: %w", container[:min(12, len(container))], n.Name, err)
	}
	four, six := e.IPv4, e.IPv6
	change(e)
	e.IPv4, e.IPv6 = four, six
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return disk.WriteFile(file, data, 0o600, disk.Volatile)
}

// Endpoints are the containers on a network that are alive, by name; those on networks over it are among them. It takes no lock.
func (s *Store) Endpoints(n *Network) ([]*Endpoint, error) { return s.endpoints(n) }

func (s *Store) endpoints(n *Network) ([]*Endpoint, error) {
	all, err := s.written(n)
	if err != nil {
		return nil, err
	}
	if n.OverBridge() {
		all = slices.DeleteFunc(all, func(e *Endpoint) bool { return e.Via != n.ID })
	}
	all = living(all)
	slices.SortFunc(all, func(a, b *Endpoint) int { return strings.Compare(a.Name+a.Container, b.Name+b.Container) })
	return all, nil
}

// Endpoint is a container's place in a network, nil when it has none or is not alive.
func (s *Store) Endpoint(n *Network, container string) (*Endpoint, error) {
	e, err := s.load1(s.endpointFile(bookID(n), container))
	if errors.Is(err, os.ErrNotExist) || err == nil && n.OverBridge() && e.Via != n.ID {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if alive, err := disk.Lives(e.Alive); err == nil && !alive {
		return nil, nil
	}
	return e, nil
}
