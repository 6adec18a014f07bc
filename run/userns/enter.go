package userns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// Maps are the id maps of a new user namespace. Outside are ids of the calling process's own namespace.
type Maps struct{ UIDs, GIDs []Extent }

// Enter starts o's program as root of a user namespace that has nothing to do with the user's own one: a new one with these maps, or join (a descriptor of a namespace), or when both are nil the caller's own, in
// which it must be root. RunDir, Member and Early of o are not used. The program has a mount namespace of its own, and executes through a read-only copy of the mount it is on.
func Enter(o Options, maps *Maps, join *os.File) (*Child, error) {
	o.Member, o.Early = false, false
	var fresh mapper
	if maps != nil {
		fresh = maps.start
	}
	if join != nil {
		own, err := namespaceOf("self")
		if err != nil {
			return nil, err
		}
		same := inode(own) == inode(join)
		if err := own.Close(); err != nil {
			return nil, err
		}
		if same {
			join = nil
		}
	}
	s, err := spawn(o, nil, join, fresh)
	if err != nil {
		if maps != nil {
			err = explain(err)
		}
		return nil, err
	}
	return s.Finish()
}

// start gives the new user namespace of pid these maps: directly where we may, else by newuidmap(1) and newgidmap(1) (see startMaps).
func (m *Maps) start(pid int) (wait func() error, err error) {
	done := func() error { return nil }
	if hasCapability(unix.CAP_SETUID) && hasCapability(unix.CAP_SETGID) {
		return done, m.write(pid)
	}
	if alone(m.UIDs, os.Geteuid()) && alone(m.GIDs, os.Getegid()) {
		// Who maps nothing but itself needs nobody's help, but must give up setgroups(2) first (user_namespaces(7)).
		if err := tell(pid, "setgroups", []byte("deny")); err != nil {
			return nil, err
		}
		return done, m.write(pid)
	}
	u, err := startHelper("newuidmap", arguments(pid, m.UIDs))
	if err != nil {
		return nil, err
	}
	g, err := startHelper("newgidmap", arguments(pid, m.GIDs))
	if err != nil {
		return nil, errors.Join(err, u.wait())
	}
	return func() error {
		uerr := u.wait()
		if gerr := g.wait(); uerr == nil {
			return gerr
		}
		return uerr
	}, nil
}

func (m *Maps) write(pid int) error {
	for _, f := range []struct {
		name string
		list []Extent
	}{{"uid_map", m.UIDs}, {"gid_map", m.GIDs}} {
		var text bytes.Buffer
		for _, e := range f.list {
			fmt.Fprintf(&text, "%d %d %d\n", e.Inside, e.Outside, e.Count)
		}
		if err := tell(pid, f.name, text.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// tell writes to a file of a process in /proc.
func tell(pid int, name string, text []byte) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), text, 0); err != nil { //nolint:forbidigo // no file, a question to the kernel
		return fmt.Errorf("cannot write the id map: %w", err)
	}
	return nil
}

func alone(list []Extent, id int) bool {
	return len(list) == 1 && list[0].Count == 1 && list[0].Outside == uint32(id)
}

func arguments(pid int, list []Extent) []string {
	args := []string{strconv.Itoa(pid)}
	for _, e := range list {
		for _, n := range []uint32{e.Inside, e.Outside, e.Count} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	return args
}

// mapper gives a new user namespace its maps, and returns what waits until they are there.
type mapper func(pid int) (wait func() error, err error)

// reap ends a child that is not to go on.
func reap(c *fork.Child, err error) error {
	reapFailed(c)
	return errors.Join(err, c.Channel.Close())
}
