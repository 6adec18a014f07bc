package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-containers/skiff/run/config"
)

// edit adds what devices of the Container Device Interface need. An unprivileged user cannot make device nodes: the host's are bound, with their owners and modes.
func edit(s *specs.Spec, e config.DeviceEdits) {
	for _, entry := range e.Env {
		if name, _, ok := strings.Cut(entry, "="); ok {
			s.Process.Env = setEnv(s.Process.Env, name, entry)
		}
	}
	for _, g := range e.Groups {
		if !slices.Contains(s.Process.User.AdditionalGids, g) {
			s.Process.User.AdditionalGids = append(s.Process.User.AdditionalGids, g)
		}
	}
	mount := func(m specs.Mount) {
		s.Mounts = slices.DeleteFunc(s.Mounts, func(o specs.Mount) bool { return o.Destination == m.Destination })
		s.Mounts = append(s.Mounts, m)
	}
	for _, m := range e.Mounts {
		sm := specs.Mount{Type: m.Type, Source: m.Host, Destination: path.Clean(m.Container), Options: m.Options}
		if sm.Type == "" {
			sm.Type = "bind"
		}
		if sm.Type == "bind" && !slices.Contains(sm.Options, "bind") && !slices.Contains(sm.Options, "rbind") {
			sm.Options = append([]string{"rbind"}, sm.Options...)
		}
		mount(sm)
	}
	for _, d := range e.Devices {
		mount(bindDevice(d.Host, path.Clean(d.Container)))
	}
	for _, h := range e.Hooks {
		if s.Hooks == nil {
			s.Hooks = &specs.Hooks{}
		}
		hook := specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout}
		switch h.Kind {
		case "prestart":
			s.Hooks.Prestart = append(s.Hooks.Prestart, hook) //nolint:staticcheck // prestart is deprecated and still used
		case "createRuntime":
			s.Hooks.CreateRuntime = append(s.Hooks.CreateRuntime, hook)
		case "createContainer":
			s.Hooks.CreateContainer = append(s.Hooks.CreateContainer, hook)
		}
	}
}
