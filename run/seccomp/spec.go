package seccomp

import (
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec is a profile for a container's capabilities in the form of the OCI runtime spec, for runtimes that compile it themselves. A nil profile is Docker's default.
func Spec(profileJSON []byte, caps []string) (*specs.LinuxSeccomp, error) {
	if profileJSON == nil {
		profileJSON = defaultProfile
	}
	p, rules, err := read(runtime.GOARCH, profileJSON, caps)
	if err != nil {
		return nil, err
	}
	s := &specs.LinuxSeccomp{DefaultAction: specs.LinuxSeccompAction(p.DefaultAction), DefaultErrnoRet: unsigned(p.DefaultErrnoRet)}
	switch runtime.GOARCH {
	case "amd64":
		s.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	case "arm64":
		s.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	for _, r := range rules {
		call := specs.LinuxSyscall{Names: r.Names, Action: specs.LinuxSeccompAction(r.Action), ErrnoRet: unsigned(r.ErrnoRet)}
		for _, a := range r.Args {
			call.Args = append(call.Args, specs.LinuxSeccompArg{Index: a.Index, Value: a.Value, ValueTwo: a.ValueTwo, Op: specs.LinuxSeccompOperator(a.Op)})
		}
		s.Syscalls = append(s.Syscalls, call)
	}
	return s, nil
}

// unsigned is the spec's spelling of an optional errno.
func unsigned(n *uint32) *uint {
	if n == nil {
		return nil
	}
	u := uint(*n)
	return &u
}
