package netswitch

// The switch's network namespace, and the thread that is in it.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

const (
	uplinkName = "up0"
	// localTable is the routing table of what is marked: it is for us, whoever it is addressed to.
	localTable = 100
	localMark  = 1
	// ownMark is, with the stack, on what we send with a client's address; its connection's answers get localMark.
	ownMark = 2
)

// space is the network namespace. One thread is in it for good and does what must be done from inside; netlink sockets made inside work from anywhere.
type space struct {
	file *os.File
	work chan func()
	link *netlink.Handle
	tid  int // of the thread
	// segment is the largest piece of a stream of IPv4 that bridges and cables carry at once; 0 is the kernel's own limit of 64 KB.
	segment uint32
	// inherited says that it was a switch's before, whose rules are in it.
	inherited bool
	sockets   [2]chan int // of TCP, made in advance, by family
}

// stocked is how many sockets are made in advance.
const stocked = 8

// newSpace makes the namespace, or takes over that of a switch before.
func newSpace(adopted *os.File) (*space, error) {
	s := &space{work: make(chan func()), inherited: adopted != nil, sockets: [2]chan int{make(chan int, stocked), make(chan int, stocked)}}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no use elsewhere
		var err error
		if adopted != nil {
			s.file = adopted
			err = unix.Setns(int(adopted.Fd()), unix.CLONE_NEWNET)
		} else if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
		s.tid = unix.Gettid()
		started <- err
		if err != nil {
			return
		}
		for f := range s.work {
			f()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot make the switch's network namespace: %w", err)
	}
	err := s.do(func() (err error) {
		s.link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open netlink: %w", err)
	}
	if adopted != nil {
		// The old uplink went with its process; what is left of it would be in the way.
		if l, err := s.link.LinkByName(uplinkName); err == nil {
			_ = s.link.LinkDel(l) // it may be going by itself
		}
		s.dropStalks()
		s.dropEmpty()
	}
	return s, nil
}

// dropEmpty removes bridges of a switch before that no container is on.
func (s *space) dropEmpty() {
	links, err := s.link.LinkList()
	if err != nil {
		return
	}
	used := map[int]bool{}
	for _, l := range links {
		used[l.Attrs().MasterIndex] = true
	}
	for _, l := range links {
		if l.Type() == "bridge" && !used[l.Attrs().Index] {
			_ = s.link.LinkDel(l) // one that stays is in nobody's way but a network of the same subnet's
		}
	}
}

// dropStalks removes the cables of macvlan interfaces: whoever lives asks for another one.
func (s *space) dropStalks() {
	links, err := s.link.LinkList()
	if err != nil {
		return
	}
	there := map[string]bool{}
	for _, l := range links {
		there[l.Attrs().Name] = true
	}
	for _, l := range links {
		if l.Attrs().MasterIndex != 0 && l.Type() == "veth" && there[stalk(l.Attrs().Name)] {
			_ = s.link.LinkDel(l) // the new one has another name
		}
	}
}

// handleIn opens netlink in a namespace. The thread that does cannot come back (the host's namespace is not ours to enter), so it ends with its goroutine.
func handleIn(file *os.File) (h *netlink.Handle, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("cannot open netlink in the container: %w", err)
	}
	return h, nil
}

// do runs f on the thread inside.
func (s *space) do(f func() error) error {
	done := make(chan error)
	s.work <- func() { done <- f() }
	return <-done
}

// socket makes a TCP socket of the namespace that does not block. Going to the thread inside costs more than a socket, so some are made in advance.
func (s *space) socket(six bool) (fd int, err error) {
	family, stock := unix.AF_INET, s.sockets[0]
	if six {
		family, stock = unix.AF_INET6, s.sockets[1]
	}
	select {
	case fd = <-stock:
		return fd, nil
	default:
	}
	err = s.do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
		for err == nil && len(stock) < cap(stock) {
			more, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
			if err != nil {
				break // one is enough now
			}
			select {
			case stock <- more:
			default:
				unix.Close(more)
				return nil
			}
		}
		return err
	})
	return fd, err
}

// sysctl writes a file of /proc/sys/net of the calling thread's network namespace.
func sysctl(name, value string) error {
	file := "/proc/sys/net/" + name
	err := os.WriteFile(file, []byte(value), 0) //nolint:forbidigo // no file, a setting of the kernel
	if err == nil {
		return nil
	}
	// In an outer container /proc/sys may be read-only, and as it should be already.
	if now, readErr := os.ReadFile(file); readErr == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	return fmt.Errorf("cannot set up the switch's network namespace: %w", err)
}

func (s *space) loopback() error {
	lo, err := s.link.LinkByName("lo")
	if err == nil {
		err = s.link.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("cannot bring up the loopback interface: %w", err)
	}
	// What this device of software could carry, those that we make can too, where the kernel can tell pieces of IPv4.
	if most := lo.Attrs().TSOMaxSize; lo.Attrs().GSOIPv4MaxSize > 0 && most > 1<<16 {
		s.segment = most
	}
	return nil
}

// addUplink gives the uplink's interface its addresses and makes it the way out, and sends what is marked to ourselves.
func (s *space) addUplink() error {
	const what = "cannot set up the uplink: %w"
	up, err := s.link.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf(what, err)
	}
	if err := s.link.LinkSetMTU(up, relay.MTU); err != nil {
		return fmt.Errorf(what, err)
	}
	for _, p := range []netip.Prefix{relay.Local4, relay.Local6} {
		if err := address(s.link, up, p); err != nil && p.Addr().Is4() {
			return fmt.Errorf(what, err)
		}
	}
	if err := s.link.LinkSetUp(up); err != nil {
		return fmt.Errorf(what, err)
	}
	for _, gateway := range []netip.Addr{relay.Gateway4, relay.Gateway6} {
		r := &netlink.Route{LinkIndex: up.Attrs().Index, Gw: gateway.AsSlice(), Dst: everything(gateway)}
		if err := s.link.RouteReplace(r); err != nil && gateway.Is4() {
			return fmt.Errorf(what, err)
		}
	}
	lo, err := s.link.LinkByName("lo")
	if err != nil {
		return fmt.Errorf(what, err)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rule := netlink.NewRule()
		rule.Family, rule.Mark, rule.Table, rule.Priority = family, localMark, localTable, 100
		if err := s.link.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) && family == unix.AF_INET {
			return fmt.Errorf(what, err)
		}
		a := netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		}
		local := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: everything(a), Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Table: localTable}
		if err := s.link.RouteReplace(local); err != nil && family == unix.AF_INET {
			return fmt.Errorf(what, err)
		}
	}
	return nil
}

// everything is 0.0.0.0/0 or ::/0.
func everything(like netip.Addr) *net.IPNet {
	if like.Is4() {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

// address adds an address that is used at once (no duplicate address detection).
func address(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	size := 32
	if p.Addr().Is6() {
		size = 128
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), size)}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return h.AddrReplace(l, a)
}

// awaitAddress waits until an address takes part, which for IPv6 is a while after it was added: the kernel does the rest by and by, and what is sent meanwhile is lost. After so long it is left to itself.
func awaitAddress(h *netlink.Handle, a netip.Addr) {
	if !a.Is6() {
		return
	}
	for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(200 * time.Microsecond) { //nolint:forbidigo // nothing tells of it
		if routes, err := h.RouteGet(a.AsSlice()); err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
	}
}
