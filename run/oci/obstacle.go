package oci

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/fork"
)

// Obstacle is a step of a container's making that the surroundings forbid: an outer container mostly.
type Obstacle struct {
	err  error
	hint string
}

func (o *Obstacle) Error() string { return o.err.Error() }

// Unwrap gives the failed step.
func (o *Obstacle) Unwrap() error { return o.err }

// HintText is what the user can do; commands print it on a line of its own.
func (o *Obstacle) HintText() string { return o.hint }

// obstacle adds to the error of a failed step what is in its way, when that can be told. It looks at files, so it is for failures only.
func obstacle(err error, step *fork.Error) error {
	if step == nil || !errors.Is(step.Errno, unix.EPERM) && !errors.Is(step.Errno, unix.ENOSYS) && !errors.Is(step.Errno, unix.EINVAL) {
		return err
	}
	says := func(prefix string) bool { return strings.HasPrefix(step.What, prefix) }
	switch {
	case says("become user ") || says("become group "):
		if errors.Is(step.Errno, unix.EINVAL) {
			return &Obstacle{err, "the user namespace does not map that id: give the user subordinate ids (/etc/subuid, /etc/subgid), or run as root of the container"}
		}
	case says("bind ") && errors.Is(step.Errno, unix.EINVAL):
		return &Obstacle{err, "a directory can be mounted on a directory only, and a file on a file: see what each of the two is"}
	case errors.Is(step.Errno, unix.EINVAL):
	case says("mount proc at ") && covered("/proc/"):
		return &Obstacle{err, "parts of /proc are covered here, as in most containers, and then the kernel lets nobody mount a new one: start the outer container with " +
			"--security-opt unmask=ALL (Podman) or --security-opt systempaths=unconfined (Docker, skiff), or this one with --pid host"}
	case says("mount sysfs at ") && covered("/sys/"):
		return &Obstacle{err, "parts of /sys are covered here, as in most containers, and then the kernel lets nobody mount a new one: start the outer container with " +
			"--security-opt unmask=ALL (Podman) or --security-opt systempaths=unconfined (Docker, skiff), or this one with --network host"}
	case filtered():
		return &Obstacle{err, "a seccomp filter is in force here, probably an outer container's, which may forbid it: start that with --security-opt seccomp=unconfined, or with --cap-add SYS_ADMIN (Podman, " +
			"Docker; both open more of the host's kernel to it)"}
	}
	return err
}

// covered says whether anything is mounted beneath a directory.
func covered(dir string) bool {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir) {
			return true
		}
	}
	return false
}

// filtered says whether this process has a seccomp filter.
func filtered() bool {
	data, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(data), "\nSeccomp:\t2")
}
