package seccomp

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSpec(t *testing.T) {
	s, err := Spec(nil, dockerCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	rule := func(s *specs.LinuxSeccomp, name string) specs.LinuxSeccompAction {
		for _, r := range s.Syscalls {
			if len(r.Args) == 0 && slices.Contains(r.Names, name) {
				return r.Action
			}
		}
		return s.DefaultAction
	}
	for name, want := range map[string]specs.LinuxSeccompAction{"read": specs.ActAllow, "bpf": specs.ActErrno, "mount": specs.ActErrno, "chroot": specs.ActAllow} {
		if got := rule(s, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if s, err = Spec(nil, append(slices.Clone(dockerCapabilities), "CAP_SYS_ADMIN")); err != nil || rule(s, "mount") != specs.ActAllow {
		t.Errorf("mount with CAP_SYS_ADMIN: %s, %v", rule(s, "mount"), err)
	}
	if _, err := Spec([]byte(`{"defaultAction":"SCMP_ACT_NONSENSE"}`), nil); err == nil {
		t.Error("a profile with an unknown action is taken")
	}
}
