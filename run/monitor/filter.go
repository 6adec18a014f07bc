package monitor

import (
	"github.com/opencontainers/runtime-spec/specs-go"
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

// profile is the same as filter in the spec's form, for runtimes that compile it themselves.
func profile(c config.Config, caps []string) (*specs.LinuxSeccomp, error) {
	switch {
	case c.Privileged || c.Security.Seccomp == "unconfined":
		return nil, nil
	case c.Security.Seccomp != "":
		return seccomp.Spec([]byte(c.Security.Seccomp), caps)
	}
	return seccomp.Spec(nil, caps)
}
