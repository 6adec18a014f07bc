package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/cgroup"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/hook"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/spec"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
)

// prepare makes everything the runtime needs: the mounted layer, volumes, host files, user, spec and filter.
func (m *monitor) prepare(ctx context.Context) (b oci.Bundle, err error) {
	c := m.record.Config
	img, err := image.Open(m.store.Data).Load(m.record.ImageID)
	if err != nil {
		return b, err
	}
	m.health = healthOf(c.Health, img)
	dir := m.store.Dir(m.record.ID)
	bundle := filepath.Join(dir, record.Bundle)
	target := filepath.Join(bundle, "rootfs")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return b, fmt.Errorf("cannot make the bundle: %w", err)
	}
	if m.network, err = m.openNetwork(img); err != nil {
		return b, err
	}
	if m.user, err = m.openUserMode(img); err != nil {
		return b, err
	}
	m.nic = m.openNIC()
	kind, _, err := layer.Choose(ctx, m.store.Data, layer.Kind(m.record.Layer))
	if err != nil {
		return b, err
	}
	m.layer, err = layer.Mount(ctx, layer.Options{Kind: kind, Lower: img.Layers, Dir: filepath.Join(dir, record.Layer), Target: target, Volatile: c.Remove})
	if err != nil {
		return b, err
	}
	in := spec.Input{ID: m.record.ID, Config: c, Image: img, Args: append([]string{m.record.Path}, m.record.Args...), Mapped: userns.Mapped(), CgroupV2: unified()}
	if in.Volumes, err = m.volumes(m.layer.Root); err != nil {
		return b, err
	}
	user := c.User
	if user == "" {
		user = img.Config.Config.User
	}
	if in.User, err = spec.LookupUser(m.layer.Root, user, c.GroupAdd); err != nil {
		return b, err
	}
	if err := m.join(&in); err != nil {
		return b, err
	}
	if err := m.bindSources(); err != nil {
		return b, err
	}
	if err := m.hostFiles(&in, bundle); err != nil {
		return b, err
	}
	if c.Privileged {
		in.Devices = hostDevices()
	}
	if in.Edits, err = m.deviceEdits(ctx, c.CDI); err != nil {
		return b, err
	}
	s, err := spec.Build(in)
	if err != nil {
		return b, err
	}
	if _, err := os.Stat("/dev/mqueue"); err != nil && in.Config.IPC == "host" {
		// A host that mounts no message queues has none to share.
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Source == "/dev/mqueue" })
	}
	if m.filter, err = filter(c, s.Process.Capabilities.Bounding); err != nil {
		return b, err
	}
	m.spec = s
	if m.group, err = cgroup.Create(m.record.ID, c.CgroupParent, c.Limits, m.noteGroup); err != nil {
		return b, err
	}
	if m.native() {
		hierarchies, err := m.group.Hierarchies()
		if err != nil {
			return b, err
		}
		spec.MountCgroupV1(s, hierarchies)
	}
	b = oci.Bundle{ID: m.record.ID, Dir: bundle, Spec: s, Rootfs: m.layer.Root, Detached: m.layer.Detached, Filter: m.filter, Init: c.Init}
	if in.Shm {
		b.Trees = map[string]*os.File{"/dev/shm": m.shm}
	}
	b.Cgroup, b.CgroupFD = places(m.group)
	if m.native() {
		b.Hooks, err = hook.Before(s, m.record.ID, bundle)
	}
	return b, err
}

// noteGroup is for whoever comes when we are killed.
func (m *monitor) noteGroup(dir string) error { return m.store.NoteGroup(m.record.ID, dir) }

// bindSources makes the missing sources of -v mounts, as Docker does, and refuses those of --mount.
func (m *monitor) bindSources() error {
	for _, mount := range m.record.Config.Mounts {
		if mount.Type != "bind" {
			continue
		}
		_, err := os.Stat(mount.Source)
		if errors.Is(err, os.ErrNotExist) && mount.Create {
			err = os.MkdirAll(mount.Source, 0o755)
		}
		if err != nil {
			return fmt.Errorf("cannot bind %s at %s: %w", mount.Source, mount.Target, err)
		}
	}
	return nil
}

// join finds the namespaces of other containers that this one shares.
func (m *monitor) join(in *spec.Input) error {
	in.Join = map[specs.LinuxNamespaceType]string{}
	for _, share := range []struct {
		of   func(*config.Config) *string
		kind specs.LinuxNamespaceType
		file string
	}{
		{func(c *config.Config) *string { return &c.Network }, specs.NetworkNamespace, "net"},
		{func(c *config.Config) *string { return &c.Pid }, specs.PIDNamespace, "pid"},
		{func(c *config.Config) *string { return &c.IPC }, specs.IPCNamespace, "ipc"},
	} {
		name, ok := strings.CutPrefix(*share.of(&in.Config), "container:")
		if !ok {
			continue
		}
		other, err := m.store.Find(name)
		if err != nil {
			return fmt.Errorf("cannot share the %s namespace: %w", share.kind, err)
		}
		st, err := m.store.Status(other.ID)
		if err != nil {
			return err
		}
		if !st.Running() {
			return fmt.Errorf("cannot share the %s namespace of container %s: it is not running", share.kind, other.Name)
		}
		owner, err := m.owner(other, share.of)
		if err != nil {
			return err
		}
		if *share.of(&owner.Config) == "host" {
			*share.of(&in.Config) = "host" // ours already, and not ours to join: it belongs to another user namespace
		} else {
			in.Join[share.kind] = fmt.Sprintf("/proc/%d/ns/%s", st.Started.Pid, share.file)
		}
		if share.kind == specs.IPCNamespace && in.Config.IPC != "host" {
			if m.shm, err = oci.OpenTree(st.Started.Pid, "/dev/shm"); err != nil {
				return fmt.Errorf("cannot share the IPC namespace of container %s: %w", other.Name, err)
			}
			m.keep, in.Shm = append(m.keep, m.shm), true
		}
		if share.kind == specs.NetworkNamespace {
			in.Hosts = filepath.Join(m.store.Dir(owner.ID), record.Bundle, "hosts")
			in.ResolvConf = filepath.Join(m.store.Dir(owner.ID), record.Bundle, "resolv.conf")
			m.name = nameOf(owner)
		}
	}
	if m.record.Config.Network == "host" {
		m.name = nameOf(m.record)
	}
	if in.Config.Hostname == "" {
		in.Config.Hostname = m.name
	}
	return nil
}

// owner is the container whose namespace c has: itself, or the one that it shares it with, over any number of others. of is the setting that says so.
func (m *monitor) owner(c *record.Container, of func(*config.Config) *string) (*record.Container, error) {
	for seen := map[string]bool{}; ; seen[c.ID] = true {
		name, shares := strings.CutPrefix(*of(&c.Config), "container:")
		if !shares || seen[c.ID] {
			return c, nil
		}
		next, err := m.store.Find(name)
		if err != nil {
			return nil, fmt.Errorf("cannot share a namespace of container %s, which is another one's: %w", c.Name, err)
		}
		c = next
	}
}

// nameOf is the host name of a container that has a network; it is in its /etc/hosts. With the host's network it is the host's.
func nameOf(c *record.Container) string {
	if c.Config.Hostname != "" {
		return c.Config.Hostname
	}
	if c.Config.Network == "host" || c.Config.UTS == "host" {
		if host, err := os.Hostname(); err == nil {
			return host
		}
	}
	return c.ID[:12]
}

// hostFiles writes resolv.conf, hosts and hostname into the bundle, unless they are another container's.
func (m *monitor) hostFiles(in *spec.Input, bundle string) error {
	write := func(to *string, file, text string) error {
		*to = filepath.Join(bundle, file)
		// The container may write to it, so it is a plain file, not one that is replaced.
		if err := os.WriteFile(*to, []byte(text), 0o644); err != nil { //nolint:forbidigo // see above
			return fmt.Errorf("cannot write the container's %s: %w", file, err)
		}
		return nil
	}
	if err := write(&in.Hostname, "hostname", m.hostname()+"\n"); err != nil {
		return err
	}
	if in.Hosts != "" {
		return nil
	}
	var err error
	if m.files, err = m.hostTexts(m.network); err != nil {
		return err
	}
	if err := write(&in.Hosts, "hosts", m.files.hosts); err != nil {
		return err
	}
	return write(&in.ResolvConf, "resolv.conf", m.files.resolvConf)
}

// refreshFiles writes hosts and resolv.conf anew after the container's networks have changed. What the container has written there itself stays.
func (m *monitor) refreshFiles(n *network) error {
	texts, err := m.hostTexts(n)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range []struct{ file, was, now string }{{"hosts", m.files.hosts, texts.hosts}, {"resolv.conf", m.files.resolvConf, texts.resolvConf}} {
		name := filepath.Join(m.store.Dir(m.record.ID), record.Bundle, f.file)
		if there, err := os.ReadFile(name); err == nil && string(there) == f.was {
			errs = append(errs, os.WriteFile(name, []byte(f.now), 0o644)) //nolint:forbidigo // it is mounted in the container
		}
	}
	m.files = texts
	return errors.Join(errs...)
}

// hostname is the container's own name.
func (m *monitor) hostname() string {
	c := m.record.Config
	if c.UTS == "host" {
		if host, err := os.Hostname(); err == nil {
			return host
		}
	}
	if c.Hostname != "" {
		return c.Hostname
	}
	if m.name != "" {
		return m.name
	}
	return m.record.ID[:12]
}

// ownNames are a host name's words in /etc/hosts: the full name, as it was given, and the first part alone, however it was split between --hostname and --domainname.
func ownNames(name, domain string) string {
	words := []string{name}
	if domain != "" {
		words = []string{name + "." + domain, name}
	}
	if first, _, ok := strings.Cut(name, "."); ok && first != "" {
		words = append(words, first)
	}
	return strings.Join(words, " ")
}

// hostTexts are /etc/hosts and /etc/resolv.conf of a container on networks; n is nil for one that is on none.
type hostTexts struct{ hosts, resolvConf string }

func (m *monitor) hostTexts(n *network) (texts hostTexts, err error) {
	c, name := m.record.Config, m.hostname()
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	if c.Network == "host" {
		if data, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = string(data)
		}
	} else {
		full := ownNames(name, c.Domainname)
		switch {
		case n != nil:
			if hosts += n.hosts(full); n.served() {
				if names, at := hostNames(c.AddHost); len(names) > 0 {
					hosts += at.String() + "\t" + strings.Join(names, " ") + "\n"
				}
			}
		case m.nic != nil:
			hosts += m.nic.hosts(full)
		case m.user != nil && m.user.name == config.Slirp:
			hosts += m.user.host(slirpGuest).String() + "\t" + full + "\n"
		default:
			hosts += "127.0.1.1\t" + full + "\n"
		}
	}
	for _, h := range c.AddHost {
		if h.IP == hostGateway {
			if h.IP = netns.HostGateway; !n.served() {
				return texts, fmt.Errorf("cannot add host %s: host-gateway is an address of bridge networks; with --network host it is 127.0.0.1", h.Name)
			}
		}
		hosts += h.IP + "\t" + h.Name + "\n"
	}
	r := config.Resolver{Servers: c.DNS, Search: c.DNSSearch, Options: c.DNSOptions, Names: n.named()}
	switch {
	case r.Names || n.served() && len(c.DNS) == 0:
		r.Servers = n.resolver() // which asks those of --dns for a container on a network with names
	case m.user != nil && len(c.DNS) == 0:
		r.Servers = m.user.resolver()
	case m.nic != nil && len(c.DNS) == 0:
		var search []string
		if r.Servers, search = m.nic.resolver(); len(r.Servers) > 0 && len(r.Search) == 0 {
			r.Search = search
		}
	}
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		data = nil // a machine without name servers
	}
	return hostTexts{hosts, string(r.ResolvConf(data))}, nil
}

// unified says whether /sys/fs/cgroup is the one hierarchy of cgroup v2.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// hostDevices lists the device nodes of the host that --privileged binds.
func hostDevices() []string {
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return nil
	}
	skip := map[string]bool{"null": true, "zero": true, "full": true, "random": true, "urandom": true, "tty": true, "console": true, "ptmx": true}
	var found []string
	for _, e := range entries {
		if e.Type()&os.ModeDevice != 0 && !skip[e.Name()] {
			found = append(found, "/dev/"+e.Name())
		}
	}
	return found
}
