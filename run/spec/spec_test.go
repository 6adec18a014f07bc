package spec

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:\nbad:x:-1:0::/:\nbig:x:4294967296:0::/:\n"
	group  = "root:x:0:\nwww:x:33:\nextra:x:50:www,other\n"
)

func TestMountCgroupV1(t *testing.T) {
	limits := map[string][]string{"pids": {"pids"}, "cpu": {"cpu", "cpuacct"}}
	for name, tt := range map[string]struct {
		edit        func(*Input)
		hierarchies map[string][]string
		want        []string // targets and options of what is added
		readonly    bool
	}{
		"two": {func(*Input) {}, limits, []string{
			"/sys/fs/cgroup nosuid noexec nodev mode=755 size=64k", "/sys/fs/cgroup/cpu nosuid noexec nodev ro cpu cpuacct", "/sys/fs/cgroup/pids nosuid noexec nodev ro pids",
		}, true},
		"none":       {func(*Input) {}, nil, nil, false},
		"privileged": {func(in *Input) { in.Config.Privileged = true }, map[string][]string{"pids": {"pids"}}, []string{"/sys/fs/cgroup nosuid noexec nodev mode=755 size=64k", "/sys/fs/cgroup/pids nosuid noexec nodev rw pids"}, false},
		"the host's": {func(in *Input) { in.Config.Cgroupns = "host" }, limits, nil, false},
		"host net":   {func(in *Input) { in.Config.Network = "host" }, limits, nil, false},
		"own mount": {func(in *Input) {
			in.Config.Mounts = []config.Mount{{Type: config.MountTmpfs, Target: "/sys/fs/cgroup"}}
		}, limits, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			tt.edit(&in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			before := len(s.Mounts)
			MountCgroupV1(s, tt.hierarchies)
			var got []string
			for i, m := range s.Mounts {
				if strings.HasPrefix(m.Destination, "/sys/fs") && len(s.Mounts) > before {
					got = append(got, m.Destination+" "+strings.Join(m.Options, " "))
					if s.Mounts[i-1].Destination > m.Destination {
						t.Errorf("%s comes after %s", m.Destination, s.Mounts[i-1].Destination)
					}
				}
			}
			if !slices.Equal(got, tt.want) || slices.Contains(s.Linux.ReadonlyPaths, "/sys/fs/cgroup") != tt.readonly {
				t.Errorf("got %q, read-only %q", got, s.Linux.ReadonlyPaths)
			}
		})
	}
}

func TestResolveUser(t *testing.T) {
	for _, tt := range []struct {
		spec string
		add  []string
		want User
		bad  bool
	}{
		{"", nil, User{0, 0, []uint32{0}, "/root"}, false},
		{"www", nil, User{33, 33, []uint32{33, 50}, "/var/www"}, false},
		{"33", nil, User{33, 33, []uint32{33, 50}, "/var/www"}, false},
		{"www:extra", nil, User{33, 50, []uint32{50}, "/var/www"}, false},
		{"1000:1001", []string{"extra", "7"}, User{1000, 1001, []uint32{1001, 50, 7}, ""}, false},
		{"nobody", nil, User{}, true},
		{"bad", nil, User{}, true},
		{"big", nil, User{}, true},
		{"-1", nil, User{}, true},
		{"+0", nil, User{}, true},
		{"4294967296", nil, User{}, true},
		{"0:none", nil, User{}, true},
	} {
		got, err := resolveUser(passwd, group, tt.spec, tt.add)
		if (err != nil) != tt.bad || err == nil && !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v", tt.spec, got, err)
		}
	}
}

func FuzzResolveUser(f *testing.F) {
	f.Add(passwd, group, "www:extra")
	f.Add("a:x:1:2::/h:\n", "g:x:7:a,b\n", "a")
	f.Add("a:x:4294967296:-1::/h:\n", "g:x: 7:a\n", "0:g")
	f.Fuzz(func(t *testing.T, p, g, s string) {
		u, err := resolveUser(p, g, s, []string{"7"})
		if err != nil {
			return
		}
		for _, id := range append(u.Groups, u.UID, u.GID) {
			// Every id was written down by somebody: nobody becomes root by a word that is not understood.
			if id >= 1<<31 || id != 0 && id != 7 && !numberIn(id, p, g, s) {
				t.Fatalf("%d of %+v", id, u)
			}
		}
		if name, _, _ := strings.Cut(s, ":"); u.UID == 0 && name != "" && strings.Trim(name, "0") != "" && !numberIn(0, p) {
			t.Fatalf("%q is root", s)
		}
	})
}

// numberIn says whether one of the texts has the number n.
func numberIn(n uint32, texts ...string) bool {
	for _, word := range strings.FieldsFunc(strings.Join(texts, "\n"), func(r rune) bool { return r < '0' || r > '9' }) {
		if m, err := strconv.ParseUint(word, 10, 32); err == nil && uint32(m) == n {
			return true
		}
	}
	return false
}

func TestCapabilitySet(t *testing.T) {
	for _, tt := range []struct {
		add, drop []string
		want      []string
	}{
		{nil, []string{"ALL"}, nil},
		{[]string{"net_admin"}, []string{"all"}, []string{"CAP_NET_ADMIN"}},
		{nil, nil, DefaultCapabilities},
		{nil, []string{"CAP_KILL"}, slices.DeleteFunc(slices.Clone(DefaultCapabilities), func(s string) bool { return s == "CAP_KILL" })},
		{[]string{"ALL"}, nil, allCapabilities},
	} {
		got, err := CapabilitySet(config.Config{CapAdd: tt.add, CapDrop: tt.drop})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("+%v -%v: %v, %v", tt.add, tt.drop, got, err)
		}
	}
	if _, err := CapabilitySet(config.Config{CapAdd: []string{"FLY"}}); err == nil {
		t.Error("an unknown capability was accepted")
	}
}

func input() Input {
	return Input{ID: "0123456789abcdef", Image: &image.Image{}, Args: []string{"true"}, Mapped: 65537}
}

func TestBuild(t *testing.T) {
	in := input()
	in.Config.Mounts = []config.Mount{{Type: config.MountTmpfs, Target: "/dev/shm"}, {Type: config.MountBind, Source: "/s", Target: "/a/b"}, {Type: config.MountBind, Source: "/s", Target: "/a"}}
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Process.Capabilities.Inheritable)+len(s.Process.Capabilities.Ambient) != 0 {
		t.Error("inheritable or ambient capabilities")
	}
	var order []string
	shm := 0
	for _, m := range s.Mounts {
		if m.Destination == "/a" || m.Destination == "/a/b" {
			order = append(order, m.Destination)
		}
		if m.Destination == "/dev/shm" {
			shm++
		}
	}
	if !slices.Equal(order, []string{"/a", "/a/b"}) || shm != 1 {
		t.Errorf("mounts: %v, %d at /dev/shm", order, shm)
	}
	if s.Hostname != "0123456789ab" || !slices.Contains(s.Process.Env, "HOSTNAME=0123456789ab") {
		t.Errorf("host name %q, environment %v", s.Hostname, s.Process.Env)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, edit := range map[string]func(*Input){
		"machine-wide sysctl": func(in *Input) { in.Config.Sysctls = map[string]string{"vm.swappiness": "1"} },
		"sysctl of a shared net": func(in *Input) {
			in.Config.Network, in.Config.Sysctls = "host", map[string]string{"net.ipv4.ip_forward": "1"}
		},
		"mount twice": func(in *Input) {
			in.Config.Mounts = []config.Mount{{Type: "tmpfs", Target: "/x"}, {Type: "tmpfs", Target: "/x/"}}
		},
		"umask": func(in *Input) { in.Config.Umask = "9" },
	} {
		in := input()
		edit(&in)
		if _, err := Build(in); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestEnvironmentNeverReadsTheHosts(t *testing.T) {
	t.Setenv("SECRET", "s")
	in := input()
	in.Image.Config.Config.Env = []string{"SECRET", "A=1"}
	in.Config.Env = []string{"A=2"}
	env := environment(in)
	if slices.Contains(env, "SECRET=s") || !slices.Contains(env, "A=2") || slices.Contains(env, "A=1") {
		t.Error(env)
	}
}

func TestCommand(t *testing.T) {
	img := &image.Image{}
	img.Config.Config.Entrypoint, img.Config.Config.Cmd = []string{"e"}, []string{"c"}
	for _, tt := range []struct {
		c    config.Config
		want []string
	}{
		{config.Config{}, []string{"e", "c"}},
		{config.Config{Command: []string{"x"}}, []string{"e", "x"}},
		{config.Config{Entrypoint: []string{"n"}}, []string{"n"}},
		{config.Config{ClearEntrypoint: true, Command: []string{"x"}}, []string{"x"}},
	} {
		if got, err := Command(img, tt.c); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, %v", tt.c, got, err)
		}
	}
	if _, err := Command(img, config.Config{ClearEntrypoint: true}); err == nil {
		t.Error("no command was accepted")
	}
}
