package oci

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaces is what a spec asks of namespaces: flags to clone with, and descriptors of those to join.
type namespaces struct {
	clone uintptr
	// cgroup is a new cgroup namespace, made after the process has been put into its groups.
	cgroup bool
	join   []joined
	pid    *os.File // a pid namespace to be born in
}

type joined struct {
	kind uintptr
	name specs.LinuxNamespaceType
	file *os.File
}

var cloneFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
	specs.TimeNamespace:    unix.CLONE_NEWTIME,
}

// openNamespaces reads the spec's list and opens those to be joined.
func openNamespaces(list []specs.LinuxNamespace) (ns *namespaces, err error) {
	ns = &namespaces{}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	for _, n := range list {
		flag, known := cloneFlags[n.Type]
		switch {
		case n.Type == specs.UserNamespace:
			if n.Path != "" || len(list) == 0 {
				return nil, fmt.Errorf("cannot join the user namespace %s: containers run in skiff's own", n.Path)
			}
			continue // we are in it
		case !known:
			return nil, fmt.Errorf("cannot make a %s namespace: unknown kind", n.Type)
		case n.Path == "" && n.Type == specs.CgroupNamespace:
			ns.cgroup = true
		case n.Path == "":
			ns.clone |= flag
		case n.Type == specs.MountNamespace:
			return nil, fmt.Errorf("cannot join the mount namespace %s: every container has its own", n.Path)
		default:
			f, err := os.Open(n.Path)
			if err != nil {
				return nil, fmt.Errorf("cannot join the %s namespace: %w", n.Type, err)
			}
			if n.Type == specs.PIDNamespace {
				ns.pid = f
			} else {
				ns.join = append(ns.join, joined{flag, n.Type, f})
			}
		}
	}
	if ns.clone&unix.CLONE_NEWNS == 0 {
		return nil, fmt.Errorf("cannot make a container without a mount namespace of its own")
	}
	return ns, nil
}

// Close closes the descriptors of namespaces to join.
func (ns *namespaces) Close() {
	for _, j := range ns.join {
		j.file.Close()
	}
	if ns.pid != nil {
		ns.pid.Close()
	}
}

// inPidNamespace calls f on this thread with children going to the pid namespace ns (pid_namespaces(7): joining one concerns children only). A nil ns changes nothing.
// The caller has locked the goroutine to its thread.
func inPidNamespace(ns *os.File, f func() error) (err error) {
	if ns == nil {
		return f()
	}
	own, err := os.Open("/proc/thread-self/ns/pid")
	if err != nil {
		return fmt.Errorf("cannot open our own pid namespace: %w", err)
	}
	defer own.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("cannot join the pid namespace: %w", err)
	}
	defer func() {
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWPID); back != nil && err == nil {
			err = fmt.Errorf("cannot come back to our pid namespace: %w", back)
		}
	}()
	return f()
}

// openNamespace opens a namespace of a process.
func openNamespace(pid int, kind string) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's %s namespace: %w", kind, err)
	}
	return f, nil
}
