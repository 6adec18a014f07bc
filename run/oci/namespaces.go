package oci

import (
	"fmt"
	"os"
	"runtime"

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

// inPidNamespace calls f where children are born in the pid namespace ns (pid_namespaces(7): joining one concerns children only). A nil ns is our own: f is called as it is.
// There is no way back for the thread that joins, since our own pid namespace belongs to a user namespace we have no rights in, so it is
// one that dies with its goroutine.
func inPidNamespace(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID); err != nil {
			result <- fmt.Errorf("cannot join the pid namespace: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

// openNamespace opens a namespace of a process.
func openNamespace(pid int, kind string) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return nil, fmt.Errorf("cannot open the container's %s namespace: %w", kind, err)
	}
	return f, nil
}
