package config

import (
	"encoding/csv"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

var propagations = map[string]bool{"private": true, "rprivate": true, "slave": true, "rslave": true, "shared": true, "rshared": true}

// ParseVolume reads the argument of -v: [SOURCE:]TARGET[:OPTIONS]. A source that begins with '/', '.' or '~/' is a host path (relative to cwd, home), another one a volume's name.
func ParseVolume(s, cwd, home string) (Mount, error) {
	if strings.Contains(s, "\x00") {
		return Mount{}, fmt.Errorf("invalid volume %q: it has a zero byte", s)
	}
	bad := func(why string) (Mount, error) { //nolint:unparam // it is what the caller returns
		return Mount{}, fmt.Errorf("invalid volume %q: %s; write [SOURCE:]TARGET[:OPTIONS], such as /data:/data:ro or name:/data", s, why)
	}
	parts := strings.Split(s, ":")
	m := Mount{Type: MountVolume, Create: true}
	options := ""
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 2:
		m.Source, m.Target = parts[0], parts[1]
		if !path.IsAbs(m.Target) && path.IsAbs(m.Source) && optionsOnly(m.Target) {
			m.Source, m.Target, options = "", parts[0], parts[1]
		} else if m.Source == "" {
			return bad("the source is empty")
		}
	case 3:
		m.Source, m.Target, options = parts[0], parts[1], parts[2]
		if m.Source == "" {
			return bad("the source is empty")
		}
	default:
		return bad("it has too many colons")
	}
	if !path.IsAbs(m.Target) {
		return bad("the target must be an absolute path")
	}
	m.Target = path.Clean(m.Target)
	if m.Target == "/" {
		return bad("the target cannot be /")
	}
	switch {
	case path.IsAbs(m.Source):
		m.Type, m.Source = MountBind, path.Clean(m.Source)
	case m.Source == "~" || strings.HasPrefix(m.Source, "~/"):
		m.Type, m.Source = MountBind, filepath.Join(home, strings.TrimPrefix(m.Source, "~"))
	case strings.HasPrefix(m.Source, "."):
		m.Type, m.Source = MountBind, filepath.Join(cwd, m.Source)
	case strings.Contains(m.Source, "/"):
		return bad(fmt.Sprintf("%q is neither an absolute path nor a volume's name (write ./%s for a path)", m.Source, m.Source))
	}
	m.Create = m.Type == MountBind
	if options != "" {
		for o := range strings.SplitSeq(options, ",") {
			if err := m.option(o); err != nil {
				return bad(err.Error())
			}
		}
	}
	return m, nil
}

func optionsOnly(s string) bool {
	var m Mount
	for o := range strings.SplitSeq(s, ",") {
		if m.option(o) != nil {
			return false
		}
	}
	return true
}

func (m *Mount) option(o string) error {
	yes, no := true, false
	switch o {
	case "ro", "readonly":
		m.ReadOnly = true
	case "rw":
		m.ReadOnly = false
	case "z", "Z", "consistent", "cached", "delegated", "rbind":
		// Labels of SELinux and the cache modes of other systems mean nothing here, as in Docker without SELinux.
	case "bind":
		m.NonRecursive = true
	case "nocopy":
		m.NoCopy = true
	case "exec":
		m.Exec = &yes
	case "noexec":
		m.Exec = &no
	case "suid":
		m.Suid = &yes
	case "nosuid":
		m.Suid = &no
	case "dev":
		m.Dev = &yes
	case "nodev":
		m.Dev = &no
	case "U":
		return fmt.Errorf("the option U (change the owner of the source) is not supported; chown it inside `skiff unshare`")
	default:
		if !propagations[o] {
			return fmt.Errorf("unknown option %q", o)
		}
		m.Propagation = o
	}
	return nil
}

// ParseTmpfs reads the argument of --tmpfs: TARGET[:OPTIONS].
func ParseTmpfs(s string) (Mount, error) {
	if strings.Contains(s, "\x00") {
		return Mount{}, fmt.Errorf("invalid tmpfs %q: it has a zero byte", s)
	}
	target, options, _ := strings.Cut(s, ":")
	m := Mount{Type: MountTmpfs, Target: path.Clean(target)}
	if !path.IsAbs(target) || m.Target == "/" {
		return m, fmt.Errorf("invalid tmpfs %q: write TARGET[:OPTIONS], such as /run:size=64m,mode=755", s)
	}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		if err := m.tmpfsOption(o); err != nil {
			return m, fmt.Errorf("invalid tmpfs %q: %w", s, err)
		}
	}
	return m, nil
}

func (m *Mount) tmpfsOption(o string) (err error) {
	key, value, _ := strings.Cut(o, "=")
	switch key {
	case "size":
		if percent, ok := strings.CutSuffix(value, "%"); ok {
			if _, err := strconv.ParseUint(percent, 10, 32); err != nil {
				return fmt.Errorf("invalid size %q: write a number with k, m, g or %%", value)
			}
			m.Options = append(m.Options, o)
			return nil
		}
		if m.Size, err = ParseSize(value); m.Size < 0 {
			return fmt.Errorf("invalid size %q: it cannot be negative", value)
		}
	case "mode":
		var mode uint64
		if mode, err = strconv.ParseUint(value, 8, 16); err != nil || mode > 0o7777 {
			return fmt.Errorf("invalid mode %q: write octal digits such as 1777", value)
		}
		m.Mode = uint32(mode)
	case "uid", "gid":
		if _, err := strconv.ParseUint(value, 10, 31); err != nil {
			return fmt.Errorf("invalid %s %q: write a number", key, value)
		}
		m.Options = append(m.Options, o)
	case "nr_inodes", "nr_blocks":
		if n, err := ParseSize(value); err != nil || n < 0 {
			return fmt.Errorf("invalid %s %q: write a number, such as 10k", key, value)
		}
		m.Options = append(m.Options, o)
	case "noatime", "relatime", "strictatime":
		m.Options = append(m.Options, o)
	default:
		return m.option(o)
	}
	return err
}

// ParseMount reads the argument of --mount: comma-separated KEY=VALUE pairs, as Docker's.
func ParseMount(s, cwd string) (Mount, error) {
	if strings.Contains(s, "\x00") {
		return Mount{}, fmt.Errorf("invalid mount %q: it has a zero byte", s)
	}
	bad := func(format string, args ...any) (Mount, error) {
		return Mount{}, fmt.Errorf("invalid mount %q: %s; write such as type=bind,source=/data,target=/data,readonly", s, fmt.Sprintf(format, args...))
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return bad("%v", err)
	}
	m := Mount{Type: MountVolume}
	seen := map[string]bool{}
	for _, f := range fields {
		key, value, has := strings.Cut(f, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		flag := func() (bool, error) {
			if !has {
				return true, nil
			}
			b, err := strconv.ParseBool(value)
			if err != nil {
				return false, fmt.Errorf("%s is true or false, not %q", key, value)
			}
			return b, nil
		}
		seen[key] = true
		var err error
		switch key {
		case "type":
			m.Type = MountType(strings.ToLower(value))
		case "source", "src":
			m.Source = value
		case "target", "destination", "dst":
			m.Target = value
		case "readonly", "ro":
			m.ReadOnly, err = flag()
		case "rw":
			var rw bool
			rw, err = flag()
			m.ReadOnly = !rw
		case "bind-propagation":
			if !propagations[value] {
				err = fmt.Errorf("unknown propagation %q", value)
			}
			m.Propagation = value
		case "bind-recursive":
			switch value {
			case "enabled", "readonly":
			case "disabled":
				m.NonRecursive = true
			case "writable":
				m.ReadOnlyNonRecursive = true
			default:
				err = fmt.Errorf("bind-recursive is enabled, disabled, writable or readonly, not %q", value)
			}
		case "bind-nonrecursive":
			m.NonRecursive, err = flag()
		case "bind-create-src":
			m.Create, err = flag()
		case "consistency":
		case "volume-nocopy":
			m.NoCopy, err = flag()
		case "volume-subpath":
			m.Subpath = value
		case "volume-driver":
			m.Driver = value
		case "volume-label", "volume-opt":
			k, v, _ := strings.Cut(value, "=")
			to := &m.Labels
			if key == "volume-opt" {
				to = &m.DriverOptions
			}
			if *to == nil {
				*to = map[string]string{}
			}
			(*to)[k] = v
		case "tmpfs-size":
			err = m.tmpfsOption("size=" + value)
		case "tmpfs-mode":
			err = m.tmpfsOption("mode=" + value)
		case "tmpfs-options":
			for o := range strings.SplitSeq(value, ",") {
				if err == nil {
					err = m.tmpfsOption(o)
				}
			}
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return bad("%v", err)
		}
	}
	return m.check(seen, cwd, bad)
}

// check refuses combinations that contradict each other.
func (m Mount) check(seen map[string]bool, cwd string, bad func(string, ...any) (Mount, error)) (Mount, error) {
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return bad("the target must be an absolute path other than /")
	}
	m.Target = path.Clean(m.Target)
	for key := range seen {
		prefix, _, _ := strings.Cut(key, "-")
		if (prefix == "bind" || prefix == "volume" || prefix == "tmpfs") && prefix != string(m.Type) {
			return bad("%s does not go with type %s", key, m.Type)
		}
	}
	switch m.Type {
	case MountBind:
		if m.Source == "" {
			return bad("a bind mount needs a source")
		}
		if !path.IsAbs(m.Source) {
			m.Source = filepath.Join(cwd, m.Source)
		}
		m.Source = path.Clean(m.Source)
	case MountTmpfs:
		if m.Source != "" {
			return bad("a tmpfs has no source")
		}
	case MountVolume:
		if strings.Contains(m.Source, "/") {
			return bad("%q is not a volume's name; a host path wants type=bind", m.Source)
		}
		if m.Subpath != "" && !filepath.IsLocal(m.Subpath) {
			return bad("the subpath must stay inside the volume")
		}
	default:
		return bad("unknown type %q: it is bind, volume or tmpfs", m.Type)
	}
	return m, nil
}
