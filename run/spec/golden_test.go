package spec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-containers/skiff/run/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden compares whole specs with those in testdata: a change of what containers get is to be seen in review.
func TestGolden(t *testing.T) {
	yes, no := true, false
	for name, edit := range map[string]func(*Input){
		"default": func(*Input) {},
		"tty": func(in *Input) {
			in.Config.Tty, in.Config.Hostname, in.Config.Umask = true, "box", "0027"
			in.Config.Env = []string{"A=1"}
			in.User = User{UID: 33, GID: 33, Groups: []uint32{33}, Home: "/var/www"}
		},
		"privileged": func(in *Input) {
			in.Config.Privileged, in.Devices, in.CgroupV2 = true, []string{"/dev/fuse"}, true
		},
		"host": func(in *Input) {
			in.Config.Network, in.Config.Pid, in.Config.IPC, in.Config.UTS, in.Config.Cgroupns = "host", "host", "host", "host", "host"
		},
		"joined": func(in *Input) {
			in.Config.Network, in.Config.IPC = "container:x", "container:x"
			in.Join = map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/proc/7/ns/net", specs.IPCNamespace: "/proc/7/ns/ipc"}
			in.Shm = true
		},
		"locked": func(in *Input) {
			in.Config.ReadOnly, in.Config.CapDrop, in.Config.Security.NoNewPrivileges = true, []string{"ALL"}, true
			in.Config.CapAdd = []string{"net_bind_service"}
			in.Config.Security.Mask = []string{"/proc/version"}
			in.Config.Ulimits = []config.Ulimit{{Name: "nofile", Soft: 10, Hard: -1}}
			in.Config.Sysctls = map[string]string{"net.core.somaxconn": "99"}
		},
		"cdi": func(in *Input) {
			in.Config.Env, in.User.Groups = []string{"LANG=en", "OWN=1"}, []uint32{44}
			in.Config.Mounts = []config.Mount{{Type: config.MountTmpfs, Target: "/lib/d.so"}}
			in.Edits = config.DeviceEdits{
				Env: []string{"LANG=de", "GPU=0"}, Groups: []uint32{44, 45}, Devices: []config.Device{{Host: "/dev/h", Container: "/dev/g/"}},
				Mounts: []config.DeviceMount{{Host: "/l", Container: "/lib/d.so", Options: []string{"ro"}}, {Type: "tmpfs", Host: "tmpfs", Container: "/scratch"}},
				Hooks:  []config.DeviceHook{{Kind: "createContainer", Path: "/bin/ldconfig", Args: []string{"ldconfig", "x"}, Env: []string{"A=b"}}},
			}
		},
		"one-id": func(in *Input) { in.Mapped = 1 },
		"mounts": func(in *Input) {
			in.ResolvConf, in.Hosts, in.Hostname = "/b/resolv.conf", "/b/hosts", "/b/hostname"
			in.Volumes = map[string]string{"/v": "/volumes/v"}
			in.Config.ShmSize = 1 << 20
			in.Config.Devices = []config.Device{{Host: "/dev/fuse", Container: "/dev/fuse2"}}
			in.Config.Mounts = []config.Mount{
				{Type: config.MountVolume, Target: "/v", ReadOnly: true},
				{Type: config.MountBind, Source: "/s", Target: "/a/b", ReadOnly: true, NonRecursive: true, Exec: &no, Suid: &no, Dev: &no},
				{Type: config.MountBind, Source: "/s", Target: "/etc/hosts", Propagation: "rslave"},
				{Type: config.MountTmpfs, Target: "/t", Size: 4096, Mode: 0o700, Exec: &yes, Options: []string{"uid=7"}},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.Image.Config.Config.Env = []string{"PATH=/bin", "LANG=C"}
			edit(&in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(s, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("the spec is not that of %s (go test ./run/spec -update writes it anew); got\n%s", file, got)
			}
		})
	}
}
