package config

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// What is accepted of --network names something, and a mode comes without options.
func FuzzParseNetwork(f *testing.F) {
	for _, s := range []string{"", "host", "container:web", "near:ip=10.0.0.2,alias=a", "name=near,alias=b,ip6=fd00::2,mac-address=02:42:0a:00:00:02,gw-priority=3", "slirp4netns:port_handler=slirp4netns", "name=host,alias=a", ",", "a,b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseNetwork(s)
		if err != nil {
			return
		}
		name, _, _ := strings.Cut(p.Network, ":")
		if p.Network == "" || name != Slirp && name != Pasta && name != "container" && strings.ContainsAny(p.Network, ",=:\x00\n/ ") {
			t.Fatalf("%q: network %q", s, p.Network)
		}
		mode := p.Network == "host" || p.Network == "none" || name == "container" || name == Slirp || name == Pasta
		if mode && (len(p.Aliases) > 0 || p.IPv4 != "" || p.IPv6 != "" || p.MAC != "") {
			t.Fatalf("%q: %+v", s, p)
		}
		for _, a := range p.Aliases {
			if a == "" {
				t.Fatalf("%q: an empty alias", s)
			}
		}
	})
}

// What ParseExpose returns is what it was given, with the protocol.
func FuzzParseExpose(f *testing.F) {
	for _, s := range []string{"80", "53/udp", "7000-7009/tcp", "0", "80-79", "65536", "+1", "1-2-3/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseExpose(s)
		if err != nil {
			return
		}
		again, err := ParseExpose(e)
		if err != nil || again != e || strings.Trim(strings.TrimRight(e, "/tcpuds"), "0123456789-") != "" || !strings.HasPrefix(e, s) {
			t.Fatalf("%q: %q, then %q, %v", s, e, again, err)
		}
	})
}

// Every entry of an env file is one variable with a name, of the file's own or one the caller has; nothing of the environment comes in that the file does not name (ENV without =).
func FuzzParseEnvFile(f *testing.F) {
	for _, s := range []string{"A=1\nB\n# C=2\n\n D=3", "\xef\xbb\xbfA=1", "=x", "A B=1", "A\x00=1", "A=1\r\n", "A#\rB=1", "A", strings.Repeat("x", 70000) + "=1"} {
		f.Add([]byte(s))
	}
	file := filepath.Join(f.TempDir(), "env")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		env, err := ParseEnvFile(file, func(name string) (string, bool) { return "the caller's", name == "B" })
		if err != nil {
			return
		}
		for _, e := range env {
			name, value, ok := strings.Cut(e, "=")
			if !ok || name == "" || strings.ContainsAny(e, "\x00\n") || strings.ContainsAny(name, " \t") {
				t.Fatalf("%q: entry %q", data, e)
			}
			if !strings.Contains(string(data), e) && (name != "B" || value != "the caller's") {
				t.Fatalf("%q: entry %q is not in it", data, e)
			}
		}
		if _, err := ParseLabelFile(file); err != nil && len(env) > 0 && strings.Count(string(data), "\n") == 0 {
			t.Fatalf("%q: fine as env file, %v as label file", data, err)
		}
	})
}

// Mounts that are accepted lead from and to absolute, clean paths.
func FuzzMounts(f *testing.F) {
	for _, s := range []string{"/a:/b:ro,z", "v:/b", "./a:/b", "~/a:/b", "type=tmpfs,dst=/t,tmpfs-size=1m", "type=volume,src=v,dst=/d,volume-opt=a=b", "type=bind,src=rel,dst=/x,bind-propagation=rshared", "/t:size=10%,mode=1777", "C:\\a:/b", "/a:/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		check := func(what string, m Mount, err error) {
			switch {
			case err != nil:
			case !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" || strings.Contains(m.Target, "\x00"):
				t.Fatalf("%s %q: target %q", what, s, m.Target)
			case m.Type == MountBind && (!path.IsAbs(m.Source) || strings.Contains(m.Source, "\x00")):
				t.Fatalf("%s %q: source %q", what, s, m.Source)
			case m.Type != MountBind && m.Type != MountVolume && m.Type != MountTmpfs:
				t.Fatalf("%s %q: type %q", what, s, m.Type)
			case m.Size < 0 || m.Mode > 0o7777:
				t.Fatalf("%s %q: %+v", what, s, m)
			}
		}
		m, err := ParseVolume(s, "/cwd", "/home")
		check("-v", m, err)
		m, err = ParseMount(s, "/cwd")
		check("--mount", m, err)
		m, err = ParseTmpfs(s)
		check("--tmpfs", m, err)
	})
}

// Numbers and words that are accepted are in their range.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"1.5", "1e309", "nan", "-1", "no", "on-failure:3", "always:1", "net.ipv4.ip_forward=1", "a/../b=1", "no-new-privileges:true", "mask=/a:/b", "unmask=ALL", "k=v", "=", "9999999999g", "0x10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseCPUs(s); err == nil && n < 0 {
			t.Fatalf("cpus %q: %d", s, n)
		}
		if r, err := ParseRestart(s); err == nil && r.MaxRetries < 0 {
			t.Fatalf("restart %q: %+v", s, r)
		}
		if key, _, err := ParseSysctl(s); err == nil && (key == "" || strings.ContainsAny(key, "/\x00\n ") || strings.Contains(key, "..")) {
			t.Fatalf("sysctl %q: %q", s, key)
		}
		if n, err := ParseSize(s); err == nil && n < -1 {
			t.Fatalf("size %q: %d", s, n)
		}
		if u, err := ParseUlimit(s); err == nil && (u.Soft < -1 || u.Hard < -1 || u.Hard >= 0 && u.Soft > u.Hard) {
			t.Fatalf("ulimit %q: %+v", s, u)
		}
		if sig, err := ParseSignal(s); err == nil && (sig < 1 || sig > 64) {
			t.Fatalf("signal %q: %d", s, sig)
		}
		if key, _, err := ParseLabel(s); err == nil && key == "" {
			t.Fatalf("label %q", s)
		}
		if key, value, _ := strings.Cut(s, "="); key != "seccomp" && !strings.HasPrefix(s, "seccomp:") {
			var sec Security
			if err := ParseSecurityOpt(&sec, s); err == nil {
				for _, p := range sec.Mask {
					if !path.IsAbs(p) {
						t.Fatalf("security option %q: mask %q (%s)", s, p, value)
					}
				}
			}
		}
	})
}
