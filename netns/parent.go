package netns

// What macvlan networks are over: a bridge network, or an interface that the switch has.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Modes of macvlan (ip-link(8)).
const (
	ModeBridge   = "bridge" // containers on the parent reach each other; the default
	ModePrivate  = "private"
	ModeVEPA     = "vepa"
	ModePassthru = "passthru"
)

// Parent is what the option parent names: an interface, or a bridge network when ParentID is set.
func (n *Network) Parent() string { return n.Options[optionParent] }

// OverBridge says that the network is over another one, a bridge network: it has that one's subnets, addresses, name server and way out.
func (n *Network) OverBridge() bool { return n.ParentID != "" }

// Over says that the network's interfaces are macvlans of an interface that the switch has.
func (n *Network) Over() bool { return n.Driver == DriverMacvlan && n.ParentID == "" }

// Apart says that a container can be on both networks: not when they have one book of addresses, in which it has one place.
func (n *Network) Apart(o *Network) error {
	if bookID(n) == bookID(o) {
		return fmt.Errorf("it cannot be on the networks %s and %s at once, of which one is over the other or both are over a third", n.Name, o.Name)
	}
	return nil
}

// Mode is macvlan's.
func (n *Network) Mode() string {
	if m := n.Options[optionMode]; m != "" {
		return m
	}
	return ModeBridge
}

func checkMode(v string) error {
	if !slices.Contains([]string{ModeBridge, ModePrivate, ModeVEPA, ModePassthru}, v) {
		return errors.New("it is bridge, private, vepa or passthru")
	}
	return nil
}

// checkParentName accepts what may be the name of an interface or of a network.
func checkParentName(v string) error {
	if CheckName(v) == nil {
		return nil
	}
	return checkInterface(v)
}

// Refusal is an error with what the user can do, for a line of its own.
type Refusal struct{ Text, Hint string }

func (r *Refusal) Error() string { return r.Text }

// HintText is what the user can do.
func (r *Refusal) HintText() string { return r.Hint }

// alternatives to a macvlan of the host's interface, for those who are not root.
const alternatives = "-o parent=NETWORK puts it over a bridge network; without macvlan, `-p` publishes ports on the host's own addresses, and `--network pasta` has copies of them"

// checkParent finds out what a macvlan network to be made is over. It must not be called with the store's lock held.
func (s *Store) checkParent(n *Network) error {
	if n.Driver != DriverMacvlan {
		return nil
	}
	name := n.Parent()
	if name == "" {
		return &Refusal{"a macvlan network needs -o parent=NAME: a bridge network's, or an interface's in the switch's network namespace", alternatives}
	}
	switch p, err := s.Get(name); {
	case err == nil:
		return overBridge(n, p)
	case !errors.Is(err, ErrNotFound):
		return err
	}
	tid, there := s.interfaces()
	switch {
	case name == "lo":
		return &Refusal{"the loopback interface cannot be a parent", alternatives}
	case slices.Contains(there, name):
		return nil
	case !slices.Contains(s.links("/proc/self/net/dev"), name):
		return &Refusal{fmt.Sprintf("there is no bridge network %s, and no interface of that name", name), alternatives}
	case s.root && n.Mode() == ModePassthru:
		return &Refusal{"the mode passthru needs an interface that is skiff's alone, and " + name + " is the host's", "choose another mode; or, while a container on a bridge network runs, move the interface: " + moving(name, tid)}
	case s.root:
		return nil
	}
	return &Refusal{
		fmt.Sprintf("%s is an interface of the host, which only root may attach containers to (run skiff as root)", name),
		"while a container on a bridge network runs, an administrator can give skiff the whole interface: " + moving(name, tid) + "; " + alternatives,
	}
}

// moving is the command that moves an interface into the switch's namespace, which is that of the thread tid; 0 when there is no switch.
func moving(name string, tid int) string {
	if tid == 0 {
		return "`sudo ip link set " + name + " netns ...` (this says where when there is a switch)"
	}
	return fmt.Sprintf("`sudo ip link set %s netns %d`", name, tid)
}

// overBridge makes n a network over p.
func overBridge(n, p *Network) error {
	switch {
	case p.Driver != DriverBridge:
		return fmt.Errorf("the parent %s is no bridge network: its driver is %s", p.Name, p.Driver)
	case len(n.Subnets) > 0 || n.IPv6 || n.NoIPv4 || n.Internal:
		return fmt.Errorf("--subnet, --ipv4, --ipv6 and --internal are the parent's: the network is over %s and has its subnets", p.Name)
	case n.Mode() == ModePassthru:
		return fmt.Errorf("the mode passthru gives a whole interface away, and %s is a network", p.Name)
	}
	n.ParentID = p.ID
	n.Options[optionParent] = p.Name
	n.inherit(p)
	return nil
}

// inherit takes over what is the parent's.
func (n *Network) inherit(p *Network) {
	n.Subnets, n.IPv6, n.NoIPv4, n.Internal = p.Subnets, p.IPv6, p.NoIPv4, p.Internal
}

// bare is the network as its file has it: what is the parent's is not in it.
func (n *Network) bare() *Network {
	b := *n
	if n.OverBridge() {
		b.inherit(&Network{})
	}
	return &b
}

// ParentOf is the bridge network that n is over. ErrNotFound when it has gone.
func (s *Store) ParentOf(n *Network) (*Network, error) {
	p, err := s.Get(n.Parent())
	if err == nil && p.ID != n.ParentID {
		err = fmt.Errorf("%w: %s", ErrNotFound, n.Parent()) // another one has the name now
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the parent of network %s: %w", n.Name, err)
	}
	return p, nil
}

// over are the names of the networks that are over n.
func (s *Store) over(n *Network) (names []string, err error) {
	all, err := s.List()
	if errors.Is(err, ErrCorrupt) {
		err = nil // one that cannot be read has no containers
	}
	for _, o := range all {
		if o.ParentID == n.ID {
			names = append(names, o.Name)
		}
	}
	return names, err
}

// book is the network whose addresses n's containers get: its parent, or itself.
func (s *Store) book(n *Network) (*Network, error) {
	if !n.OverBridge() {
		return n, nil
	}
	return s.ParentOf(n)
}

// Space is where the switch's own network namespace is, as the switch announces it: that of one thread of its process.
type Space struct {
	Pid int `json:"pid"`
	Tid int `json:"tid"`
}

// SpaceFile holds a Space. It counts while somebody holds the lock in the file alive beside it. run is the runtime directory.
func SpaceFile(run string) string { return filepath.Join(run, "switch", "space") }

// interfaces are the names of those in the switch's namespace, and the thread that is in it; 0 when there is no switch.
func (s *Store) interfaces() (tid int, names []string) {
	file := SpaceFile(filepath.Dir(s.run))
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, nil
	}
	var at Space
	if json.Unmarshal(data, &at) != nil {
		return 0, nil
	}
	names = s.links(fmt.Sprintf("/proc/%d/task/%d/net/dev", at.Pid, at.Tid))
	if alive, err := disk.Locked(filepath.Join(filepath.Dir(file), "alive")); err != nil || !alive {
		return 0, nil
	}
	return at.Tid, names
}

// interfacesOf reads /proc/.../net/dev: two lines of headings, then NAME: counters.
func interfacesOf(file string) (names []string) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}
