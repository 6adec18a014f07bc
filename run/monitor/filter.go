package monitor

import (
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/seccomp"
)

// filter is the seccomp program of the container's processes: none for --privileged and unconfined.
func filter(c config.Config, caps []string) ([]unix.SockFilter, error) {
	switch {
	case c.Privileged || c.Security.Seccomp == "unconfined":
		return nil, nil
	case c.Security.Seccomp != "":
		return seccomp.Compile([]byte(c.Security.Seccomp), caps)
	}
	return seccomp.Default(caps)
}
