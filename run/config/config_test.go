package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// same compares by JSON, where pointers are their values.
func same(t *testing.T, got, want any) {
	t.Helper()
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got %s, want %s", a, b)
	}
}

func TestParseVolume(t *testing.T) {
	yes := true
	for in, want := range map[string]Mount{
		"/a:/b":               {Type: MountBind, Source: "/a", Target: "/b", Create: true},
		"/a/:/b/../c:ro":      {Type: MountBind, Source: "/a", Target: "/c", ReadOnly: true, Create: true},
		"./x:/b":              {Type: MountBind, Source: "/cwd/x", Target: "/b", Create: true},
		"~/x:/b":              {Type: MountBind, Source: "/home/u/x", Target: "/b", Create: true},
		"data:/b:nocopy":      {Type: MountVolume, Source: "data", Target: "/b", NoCopy: true},
		"/b":                  {Type: MountVolume, Target: "/b"},
		"/a:/b:rslave,exec,z": {Type: MountBind, Source: "/a", Target: "/b", Propagation: "rslave", Exec: &yes, Create: true},
	} {
		got, err := ParseVolume(in, "/cwd", "/home/u")
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		same(t, got, want)
	}
	for _, in := range []string{"", ":", "/a:", ":/b", "/a:b", "a/b:/c", "/a:/b:bad", "/a:/", "/a:/b:ro:x", "/a:/b:U"} {
		if m, err := ParseVolume(in, "/cwd", "/h"); err == nil || !strings.Contains(err.Error(), "invalid volume") {
			t.Errorf("%q: %+v, %v", in, m, err)
		}
	}
}

func TestParseMount(t *testing.T) {
	for in, want := range map[string]Mount{
		"type=bind,src=/a,dst=/b,readonly":                     {Type: MountBind, Source: "/a", Target: "/b", ReadOnly: true},
		"type=bind,source=a,target=/b,bind-propagation=shared": {Type: MountBind, Source: "/cwd/a", Target: "/b", Propagation: "shared"},
		"source=v,target=/b,volume-nocopy=true":                {Type: MountVolume, Source: "v", Target: "/b", NoCopy: true},
		"type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770":   {Type: MountTmpfs, Target: "/t", Size: 1 << 20, Mode: 0o1770},
		`type=volume,dst=/b,"volume-label=a=b,c"`:              {Type: MountVolume, Target: "/b", Labels: map[string]string{"a": "b,c"}},
	} {
		got, err := ParseMount(in, "/cwd")
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		same(t, got, want)
	}
	for _, in := range []string{
		"", "type=bind,target=/b", "type=x,target=/b", "target=b", "type=tmpfs,source=/a,target=/b", "type=bind,source=/a,target=/b,nope=1",
		"type=bind,source=/a,target=/b,tmpfs-size=1m", "type=volume,source=/a,target=/b", "target=/b,volume-subpath=../x", "target=/b,ro=maybe",
	} {
		if m, err := ParseMount(in, "/cwd"); err == nil {
			t.Errorf("%q: %+v", in, m)
		}
	}
}

func TestParsePort(t *testing.T) {
	for in, want := range map[string]Port{
		"80":                  {Container: 80, Protocol: "tcp"},
		"127.0.0.1:0:80":      {Container: 80, HostIP: "127.0.0.1", Protocol: "tcp"},
		"8080:80/udp":         {Container: 80, Host: 8080, Protocol: "udp"},
		"127.0.0.1::80":       {Container: 80, HostIP: "127.0.0.1", Protocol: "tcp"},
		"[::1]:8080:80":       {Container: 80, Host: 8080, HostIP: "::1", Protocol: "tcp"},
		"7000-7002:7000-7002": {Container: 7000, Host: 7000, Count: 3, Protocol: "tcp"},
		"8000-8010:80":        {Container: 80, Host: 8000, HostEnd: 8010, Protocol: "tcp"},

		"target=80": {Container: 80, Protocol: "tcp"},
		"mode=host,target=53,published=5353,protocol=udp": {Container: 53, Host: 5353, Protocol: "udp"},
		"published=7000-7002,target=8000-8002":            {Container: 8000, Host: 7000, Count: 3, Protocol: "tcp"},
	} {
		got, err := ParsePort(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65536", "80/x", "a:80", "1.2.3:1:80", "1-2:1-3", "2-1:2-1", "::", "-80", "::1:80:80", "[::1:80:80", "::1]:80:80", "[127.0.0.1]:80:80", "[fe80::1%eth0]:80:80", "+80", "target=", "published=80", "target=80,mode=x", "target=80,x=1", "target=80,protocol=x", "target=1:80", "target=80,", "="} {
		if p, err := ParsePort(in); err == nil {
			t.Errorf("%q: %+v", in, p)
		}
	}
}

func TestSmallGrammars(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "512": 512, "64k": 64 << 10, "1.5g": 3 << 29, "2GiB": 2 << 30, "10MB": 10 << 20, "-1": -1} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("size %q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "k", "1x", "-2", "1e30g", "nan", "1 2", "-1k", "-0.5", "1e3", "0x10", "1_0", "+1", "5ib", "1kk", "inf", "."} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("size %q: %d", in, got)
		}
	}
	for in, want := range map[string]unix.Signal{"TERM": 15, "sigkill": 9, "1": 1, "RTMIN+3": 37, "RTMAX-1": 63, "SIGWINCH": 28} {
		if got, err := ParseSignal(in); err != nil || got != want {
			t.Errorf("signal %q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65", "-1", "NOPE", "RTMIN+99", "+15", "SIGSIGTERM"} {
		if got, err := ParseSignal(in); err == nil {
			t.Errorf("signal %q: %d", in, got)
		}
	}
	if u, err := ParseUlimit("nofile=10:20"); err != nil || u != (Ulimit{"nofile", 10, 20}) {
		t.Error(u, err)
	}
	for _, in := range []string{"nofile", "nofile=", "x=1", "nofile=20:10", "nofile=-1:5"} {
		if u, err := ParseUlimit(in); err == nil {
			t.Errorf("ulimit %q: %+v", in, u)
		}
	}
	if h, err := ParseHost("db:10.0.0.5"); err != nil || h != (Host{"db", "10.0.0.5"}) {
		t.Error(h, err)
	}
	for _, in := range []string{"db", "db:", ":1.2.3.4", "db:nowhere", "db:[::1", "db:1.2.3.4]"} {
		if h, err := ParseHost(in); err == nil {
			t.Errorf("host %q: %+v", in, h)
		}
	}
	for _, in := range []string{"always:3", "sometimes", "on-failure:x"} {
		if r, err := ParseRestart(in); err == nil {
			t.Errorf("restart %q: %+v", in, r)
		}
	}
	for _, in := range []string{"seccomp=/none", "apparmor=x", "label=user:x", "label", "nope", "no-new-privileges=7"} {
		var s Security
		if err := ParseSecurityOpt(&s, in); err == nil {
			t.Errorf("security option %q: %+v", in, s)
		}
	}
	for _, in := range []string{"fuse", "/dev/a:b", "/dev/a:/b:q", ""} {
		if d, err := ParseDevice(in); err == nil {
			t.Errorf("device %q: %+v", in, d)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	yes := true
	for in, want := range map[string]Mount{
		"/t": {Type: MountTmpfs, Target: "/t"},
		"/t:size=64m,mode=755,exec,uid=7,nr_inodes=1k": {Type: MountTmpfs, Target: "/t", Size: 64 << 20, Mode: 0o755, Exec: &yes, Options: []string{"uid=7", "nr_inodes=1k"}},
		"/t:size=50%,ro": {Type: MountTmpfs, Target: "/t", ReadOnly: true, Options: []string{"size=50%"}},
	} {
		got, err := ParseTmpfs(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		same(t, got, want)
	}
	for _, in := range []string{"", "t", "/", "/t:size=-1", "/t:size=%", "/t:size=x", "/t:uid=-1", "/t:gid=1k", "/t:uid=4294967295", "/t:mode=9", "/t:mode=77777", "/t:nope", "/t:nr_inodes=-1"} {
		if m, err := ParseTmpfs(in); err == nil {
			t.Errorf("%q: %+v", in, m)
		}
	}
}

func TestParseCPUs(t *testing.T) {
	for in, want := range map[string]int64{"1.5": 1_500_000_000, "0": 0, ".25": 250_000_000, "0.000000001": 1} {
		if got, err := ParseCPUs(in); err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	// What rounds to nothing would be no limit at all.
	for _, in := range []string{"", "-1", "nan", "inf", "1e1", "0x1", "9999999999", "0.0000000001"} {
		if got, err := ParseCPUs(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestEnvFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte("# c\nA=1,2\n\n  B=x y\nHOSTS\nNONE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lookup := func(n string) (string, bool) { return "v", n == "HOSTS" }
	got, err := ParseEnvFile(path, lookup)
	if err != nil || !reflect.DeepEqual(got, []string{"A=1,2", "B=x y", "HOSTS=v"}) {
		t.Fatal(got, err)
	}
	for _, bad := range []string{t.TempDir(), "/none", "/dev/zero"} {
		if _, err := ParseEnvFile(bad, lookup); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if got, err := ParseEnvFile(os.DevNull, lookup); err != nil || len(got) > 0 { // ${FILE:-/dev/null} in scripts
		t.Errorf("of no file: %v, %v", got, err)
	}
}

func FuzzGrammars(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "type=bind,src=/a,dst=/b", "1.2.3.4:80-81:80-81/udp", "nofile=1:2", "64m", "RTMIN+1", "/dev/null:/x:rw"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseVolume(s, "/cwd", "/home"); err == nil && m.Target == "/" {
			t.Fatal(m)
		}
		if m, err := ParseMount(s, "/cwd"); err == nil && m.Target == "/" {
			t.Fatal(m)
		}
		if p, err := ParsePort(s); err == nil && p.Container == 0 {
			t.Fatal(p)
		}
		_, _ = ParseUlimit(s)
		_, _ = ParseSize(s)
		_, _ = ParseSignal(s)
		_, _ = ParseDevice(s)
		_, _ = ParseHost(s)
	})
}
