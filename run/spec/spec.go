// Package spec makes OCI runtime specs: what an image says and what a user asked, together with a few facts about this machine and this
// container, become one document. It is pure: it opens nothing and asks nobody.
package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-tools/generate"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
)

// Input is everything a spec is made of.
type Input struct {
	ID     string
	Config config.Config
	Image  *image.Image
	Args   []string // the whole command line, see Command
	User   User     // who the process is, see LookupUser

	// Files of the container's own that are bound over the image's: resolv.conf, hosts, hostname. "" binds nothing.
	ResolvConf, Hosts, Hostname string
	// Volumes are the directories of the volumes, by target.
	Volumes map[string]string
	// Namespaces to join instead of new ones, by kind: paths such as /proc/123/ns/net.
	Join map[specs.LinuxNamespaceType]string
	// Shm says that /dev/shm is another container's (--ipc container:); the runtime gets that by itself (oci.Bundle.Trees).
	Shm bool
	// Mapped says how many ids the user namespace maps; tty's group 5 and others may be missing.
	Mapped uint32
	// CgroupV2 says that /sys/fs/cgroup is the unified hierarchy, which can be mounted in a cgroup namespace.
	CgroupV2 bool
	// Devices of the host, for --privileged.
	Devices []string
	// Edits are what the devices in Config.CDI need.
	Edits config.DeviceEdits
}

// Build makes the spec.
func Build(in Input) (*specs.Spec, error) {
	g, err := generate.New("linux")
	if err != nil {
		return nil, fmt.Errorf("cannot make the container's spec: %w", err)
	}
	s := g.Config
	c := in.Config
	s.Version = specs.Version
	s.Root = &specs.Root{Path: "rootfs", Readonly: c.ReadOnly}
	s.Hostname, s.Domainname = hostname(in), c.Domainname
	s.Annotations = c.Annotations
	s.Hooks = nil
	s.Process = &specs.Process{
		Terminal: c.Tty, Args: in.Args, Cwd: workdir(in), Env: environment(in),
		User:            specs.User{UID: in.User.UID, GID: in.User.GID, AdditionalGids: in.User.Groups},
		NoNewPrivileges: c.Security.NoNewPrivileges, OOMScoreAdj: c.Limits.OOMScoreAdj,
	}
	if s.Process.User.Umask, err = umask(c.Umask); err != nil {
		return nil, err
	}
	if s.Process.Capabilities, err = Capabilities(c); err != nil {
		return nil, err
	}
	for _, u := range c.Ulimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	s.Linux = &specs.Linux{Namespaces: namespaces(in)}
	if s.Linux.Sysctl, err = sysctls(in, s.Linux.Namespaces); err != nil {
		return nil, err
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = hidden(c)
	if s.Mounts, err = mounts(in); err != nil {
		return nil, err
	}
	edit(s, in.Edits)
	return s, nil
}

// Command merges entrypoint and command by Docker's rules: a new entrypoint drops the image's command.
func Command(img *image.Image, c config.Config) ([]string, error) {
	entrypoint, command := img.Config.Config.Entrypoint, img.Config.Config.Cmd
	if len(c.Entrypoint) > 0 || c.ClearEntrypoint {
		entrypoint, command = c.Entrypoint, nil
	}
	if len(c.Command) > 0 {
		command = c.Command
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 || args[0] == "" {
		return nil, fmt.Errorf("no command specified, and the image %s has none; give one after the image", c.Image)
	}
	return args, nil
}

func hostname(in Input) string {
	for _, n := range namespaces(in) {
		if n.Type == specs.UTSNamespace && n.Path == "" {
			if in.Config.Hostname != "" {
				return in.Config.Hostname
			}
			return in.ID[:min(12, len(in.ID))]
		}
	}
	return ""
}

func workdir(in Input) string {
	dir := in.Config.Workdir
	if dir == "" {
		dir = in.Image.Config.Config.WorkingDir
	}
	if dir == "" {
		return "/"
	}
	return path.Join("/", dir)
}

// defaultPath is Docker's PATH for images that set none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is Docker's order: PATH, HOSTNAME, TERM, then the image's, then the user's; HOME when nobody set it.
func environment(in Input) []string {
	env := []string{defaultPath}
	if h := hostname(in); h != "" {
		env = append(env, "HOSTNAME="+h)
	}
	if in.Config.Tty {
		env = append(env, "TERM=xterm")
	}
	for _, e := range slices.Concat(in.Image.Config.Config.Env, in.Config.Env) {
		// An entry without '=' must not take the host's value: it means nothing here.
		if name, _, ok := strings.Cut(e, "="); ok {
			env = setEnv(env, name, e)
		}
	}
	for _, name := range in.Config.UnsetEnv {
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		home := in.User.Home
		if home == "" {
			home = "/"
		}
		env = append(env, "HOME="+home)
	}
	return env
}

func setEnv(env []string, name, entry string) []string {
	for i, e := range env {
		if strings.HasPrefix(e, name+"=") {
			env[i] = entry
			return env
		}
	}
	return append(env, entry)
}

func umask(s string) (*uint32, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return nil, fmt.Errorf("invalid umask %q: write octal digits such as 0022", s)
	}
	mask := uint32(n)
	return &mask, nil
}

// namespaces are new ones except where the user or Join says otherwise.
func namespaces(in Input) []specs.LinuxNamespace {
	c := in.Config
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(kind specs.LinuxNamespaceType, host bool) {
		if !host {
			list = append(list, specs.LinuxNamespace{Type: kind, Path: in.Join[kind]})
		}
	}
	add(specs.PIDNamespace, c.Pid == "host")
	add(specs.NetworkNamespace, c.Network == "host")
	add(specs.IPCNamespace, c.IPC == "host")
	add(specs.UTSNamespace, c.UTS == "host")
	add(specs.CgroupNamespace, c.Cgroupns == "host")
	return list
}

// sysctls checks that each belongs to a namespace of the container's own, and adds what Docker sets in a network namespace.
func sysctls(in Input, list []specs.LinuxNamespace) (map[string]string, error) {
	own := map[specs.LinuxNamespaceType]bool{}
	for _, n := range list {
		own[n.Type] = n.Path == ""
	}
	values := map[string]string{}
	if own[specs.NetworkNamespace] {
		values["net.ipv4.ip_unprivileged_port_start"] = "0"
		values["net.ipv4.ping_group_range"] = "0 " + strconv.FormatUint(uint64(max(in.Mapped, 1)-1), 10)
	}
	for key, value := range in.Config.Sysctls {
		kind := specs.LinuxNamespaceType("")
		switch {
		case strings.HasPrefix(key, "net."):
			kind = specs.NetworkNamespace
		case strings.HasPrefix(key, "fs.mqueue."), strings.HasPrefix(key, "kernel.msg"), strings.HasPrefix(key, "kernel.shm"), key == "kernel.sem":
			kind = specs.IPCNamespace
		case key == "kernel.domainname", key == "kernel.hostname":
			kind = specs.UTSNamespace
		default:
			return nil, fmt.Errorf("cannot set sysctl %s: it belongs to the whole machine, not to a container", key)
		}
		if !own[kind] {
			return nil, fmt.Errorf("cannot set sysctl %s: the container shares its %s namespace", key, kind)
		}
		values[key] = value
	}
	return values, nil
}

// The paths that Docker hides and those it makes read-only.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func hidden(c config.Config) (masked, readonly []string) {
	if c.Privileged {
		return slices.Clone(c.Security.Mask), nil
	}
	for _, p := range c.Security.Unmask {
		if strings.EqualFold(p, "ALL") {
			return slices.Clone(c.Security.Mask), nil
		}
	}
	unmasked := func(p string) bool {
		return slices.ContainsFunc(c.Security.Unmask, func(u string) bool { ok, _ := path.Match(path.Clean(u), p); return ok })
	}
	masked = slices.DeleteFunc(slices.Concat(maskedPaths, c.Security.Mask), unmasked)
	return masked, slices.DeleteFunc(slices.Clone(readonlyPaths), unmasked)
}

// ExecEnvironment is the environment of an exec'd process: the container's, TERM with a terminal, HOME of another user, then what was asked.
func ExecEnvironment(base, asked []string, u User, otherUser, tty bool) []string {
	env := slices.Clone(base)
	if tty && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		env = append(env, "TERM=xterm")
	}
	if otherUser && u.Home != "" {
		env = setEnv(env, "HOME", "HOME="+u.Home)
	}
	for _, e := range asked {
		if name, _, ok := strings.Cut(e, "="); ok {
			env = setEnv(env, name, e)
		}
	}
	return env
}
