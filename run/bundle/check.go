package bundle

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FieldError is a field of a config.json that cannot be honoured.
type FieldError struct {
	Field string // as config.json spells its path: linux.namespaces[2].path
	Why   string
}

func (e *FieldError) Error() string { return "cannot honour " + e.Field + ": " + e.Why }

// refused lists what a spec asks and this runtime does not do, by field.
type refused struct {
	field string
	is    bool
	why   string
}

// Check refuses a spec that asks what cannot be done, whoever asks. What depends on the machine is refused when it is tried.
func Check(s *specs.Spec) error {
	if major, _, ok := strings.Cut(s.Version, "."); !ok || major != "1" {
		return &FieldError{"ociVersion", fmt.Sprintf("%q is no version 1.x of the runtime spec", s.Version)}
	}
	l := s.Linux
	if l == nil {
		l = &specs.Linux{}
	}
	const notLinux = "this is Linux"
	list := []refused{
		{"root", s.Root == nil || s.Root.Path == "", "there must be a root file system"},
		{"windows", s.Windows != nil, notLinux},
		{"solaris", s.Solaris != nil, notLinux},
		{"zos", s.ZOS != nil, notLinux},
		{"freebsd", s.FreeBSD != nil, notLinux},
		{"vm", s.VM != nil, "containers share the kernel"},
		{"linux.mountLabel", l.MountLabel != "", "SELinux labels are not supported"},
		{"linux.intelRdt", l.IntelRdt != nil, "resource director technology is root's"},
		{"linux.memoryPolicy", l.MemoryPolicy != nil, "not supported"},
		{"linux.netDevices", len(l.NetDevices) > 0, "the host's network devices are root's"},
		{"linux.personality", l.Personality != nil && (l.Personality.Domain != specs.PerLinux || len(l.Personality.Flags) > 0), "not supported"},
		{"linux.timeOffsets", len(l.TimeOffsets) > 0, "not supported"},
	}
	if err := first(list); err != nil {
		return err
	}
	if err := checkNamespaces(l); err != nil {
		return err
	}
	if !slices.Contains([]string{"", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"}, l.RootfsPropagation) {
		return &FieldError{"linux.rootfsPropagation", fmt.Sprintf("%q is none of private, slave, shared, unbindable", l.RootfsPropagation)}
	}
	for i, m := range s.Mounts {
		if err := checkMount(fmt.Sprintf("mounts[%d]", i), m); err != nil {
			return err
		}
	}
	if err := checkSeccomp(l.Seccomp); err != nil {
		return err
	}
	if s.Process != nil {
		return CheckProcess("process", s.Process)
	}
	return nil
}

func first(list []refused) error {
	for _, r := range list {
		if r.is {
			return &FieldError{r.field, r.why}
		}
	}
	return nil
}

// CheckProcess is Check for a process; at is where it stands.
func CheckProcess(at string, p *specs.Process) error {
	if err := first([]refused{
		{at + ".args", len(p.Args) == 0, "there must be a command"},
		{at + ".cwd", !path.IsAbs(p.Cwd), fmt.Sprintf("%q is not absolute", p.Cwd)},
		{at + ".commandLine", p.CommandLine != "", "this is Linux"},
		{at + ".user.username", p.User.Username != "", "this is Linux: name the user by its number"},
		{at + ".apparmorProfile", p.ApparmorProfile != "", "AppArmor profiles are not supported"},
		{at + ".selinuxLabel", p.SelinuxLabel != "", "SELinux labels are not supported"},
		{at + ".scheduler", p.Scheduler != nil, "not supported"},
		{at + ".ioPriority", p.IOPriority != nil, "not supported"},
		{at + ".execCPUAffinity", p.ExecCPUAffinity != nil, "not supported"},
	}); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, l := range p.Rlimits {
		if seen[l.Type] {
			return &FieldError{fmt.Sprintf("%s.rlimits[%d].type", at, i), l.Type + " is there twice"}
		}
		seen[l.Type] = true
	}
	return nil
}

func checkNamespaces(l *specs.Linux) error {
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, n := range l.Namespaces {
		at := fmt.Sprintf("linux.namespaces[%d]", i)
		switch {
		case !slices.Contains(namespaceTypes, n.Type):
			return &FieldError{at + ".type", fmt.Sprintf("%q is no namespace that is known", n.Type)}
		case seen[n.Type]:
			return &FieldError{at + ".type", "there are two " + string(n.Type) + " namespaces"}
		case n.Path != "" && !path.IsAbs(n.Path):
			return &FieldError{at + ".path", fmt.Sprintf("%q is not absolute", n.Path)}
		case n.Path != "" && n.Type == specs.MountNamespace:
			return &FieldError{at + ".path", "a mount namespace cannot be joined: every container has its own"}
		}
		seen[n.Type] = true
	}
	maps := len(l.UIDMappings) + len(l.GIDMappings)
	user := slices.IndexFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	return first([]refused{
		{"linux.namespaces", !seen[specs.MountNamespace], "there must be a mount namespace"},
		{"linux.uidMappings", user < 0 && maps > 0, "there is no new user namespace that it could be of"},
		{"linux.uidMappings", user >= 0 && l.Namespaces[user].Path == "" && len(l.UIDMappings) == 0, "a new user namespace needs one"},
		{"linux.gidMappings", user >= 0 && l.Namespaces[user].Path == "" && len(l.GIDMappings) == 0, "a new user namespace needs one"},
	})
}

var namespaceTypes = []specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

func checkMount(at string, m specs.Mount) error {
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		return &FieldError{at + ".uidMappings", "mounts with id maps of their own are root's"}
	}
	if !path.IsAbs(m.Destination) && m.Destination == "" {
		return &FieldError{at + ".destination", "there must be one"}
	}
	for i, o := range m.Options {
		if o == "idmap" || o == "ridmap" || o == "tmpcopyup" && m.Type != "tmpfs" {
			return &FieldError{fmt.Sprintf("%s.options[%d]", at, i), o + " is not supported"}
		}
	}
	return nil
}

func checkSeccomp(s *specs.LinuxSeccomp) error {
	if s == nil {
		return nil
	}
	for i, f := range s.Flags {
		if f != specs.LinuxSeccompFlagSpecAllow {
			return &FieldError{fmt.Sprintf("linux.seccomp.flags[%d]", i), string(f) + " is not supported"}
		}
	}
	return first([]refused{{"linux.seccomp.listenerPath", s.ListenerPath != "" || s.ListenerMetadata != "", "listeners are not supported"}})
}
