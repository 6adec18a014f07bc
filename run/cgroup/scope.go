package cgroup

// A scope of the user's systemd: a subtree of control groups that is delegated to us, with this process in it.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scopePatience is how long the bus may take to answer, and systemd to move this process: the patience of D-Bus's own clients.
const scopePatience = 25 * time.Second

// enterScope has the user's systemd move this process into a delegated scope of its own, and looks at the machine again. systemd deletes the scope when its last process
// has ended. (org.freedesktop.systemd1(5), StartTransientUnit; systemd's CGROUP_DELEGATION.md.)
func enterScope(name string) (*Host, error) {
	socket, err := busSocket()
	if err != nil {
		return nil, err
	}
	b, err := dialBus(socket)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the user's systemd for a scope: %w", unanswered(err))
	}
	defer b.close()
	unit := name + ".scope"
	var m body
	m.string(unit)
	m.string("fail") // when there is one of this name
	m.array(8, func() {
		m.property("PIDs", "au", func() { m.array(4, func() { m.uint32(uint32(os.Getpid())) }) })
		m.property("Delegate", "b", func() { m.uint32(1) })
		m.property("Description", "s", func() { m.string("a container of skiff's") })
		m.property("CollectMode", "s", func() { m.string("inactive-or-failed") })
	})
	m.array(8, func() {}) // no further units
	err = b.call(call{
		destination: "org.freedesktop.systemd1", path: "/org/freedesktop/systemd1", member: "org.freedesktop.systemd1.Manager.StartTransientUnit", signature: "ssa(sv)a(sa(sv))",
	}, m.bytes)
	if err != nil {
		return nil, fmt.Errorf("the user's systemd gives no scope: %w", unanswered(err))
	}
	for start := time.Now(); time.Since(start) < scopePatience; <-time.After(200 * time.Microsecond) {
		h, err := Probe()
		if err != nil {
			return nil, err
		}
		if filepath.Base(h.self[""]) == unit && writable(filepath.Join(h.Root, h.self[""])) {
			h.mine = true // older ones than systemd 251 do not mark it
			return h, nil
		}
	}
	return nil, errors.New("the user's systemd does not move this process into its scope " + unit)
}

// unanswered puts the end of the patience, which is the socket's, into words.
func unanswered(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("the message bus has not answered for %v", scopePatience)
	}
	return err
}

// busSocket is where the user's message bus listens: a path, or an abstract name that begins with @.
func busSocket() (string, error) {
	for part := range strings.SplitSeq(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), ";") {
		rest, ok := strings.CutPrefix(part, "unix:")
		for option := range strings.SplitSeq(rest, ",") {
			key, value, _ := strings.Cut(option, "=")
			switch {
			case ok && key == "path":
				return value, nil
			case ok && key == "abstract":
				return "@" + value, nil
			}
		}
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		socket := filepath.Join(dir, "bus")
		if unix.Access(socket, unix.W_OK) == nil {
			return socket, nil
		}
	}
	return "", errors.New("there is no message bus of the user's (DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR/bus)")
}
