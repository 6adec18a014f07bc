package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/tests/inside"
)

// The tests run in a user namespace and a mount namespace of their own.
func TestMain(m *testing.M) { inside.Main(m, unix.CLONE_NEWNS, nil) }

// bundle makes a root file system of the static busybox and a spec like Docker's, changed by edit.
func bundle(t testing.TB, edit func(*specs.Spec), args ...string) Bundle {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "image")
	for _, d := range []string{"bin", "etc", "proc", "tmp", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "true", "cat", "id", "ls", "mount", "stat", "sleep", "tty", "readlink", "grep", "echo", "hostname", "ip", "stty", "pwd", "kill"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	caps := []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"}
	spec := &specs.Spec{
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Hostname: "box",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.CgroupNamespace},
			},
			Devices:       []specs.LinuxDevice{{Path: "/dev/null"}, {Path: "/dev/zero"}, {Path: "/dev/tty"}},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/no-such-file", "/etc"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if edit != nil {
		edit(spec)
	}
	r, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return Bundle{ID: "test", Dir: dir, Spec: spec, Rootfs: r}
}

// output runs a bundle to its end.
func output(t testing.TB, b Bundle) (string, int, error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b.Stdio = [3]*os.File{nil, w, w}
	c, err := New().Create(context.Background(), b)
	if err != nil {
		w.Close()
		return "", -1, err
	}
	err = c.Start()
	w.Close()
	if err != nil {
		_, _ = c.Wait()
		return "", -1, err
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	code, err := c.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), code, c.Delete()
}

func TestCreate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		edit   func(*specs.Spec)
		script string
		want   string
	}{
		{"first process", nil, "echo $$", "1\n"},
		{"host name", nil, "hostname", "box\n"},
		{"masked file", nil, "cat /proc/timer_list", ""},
		{"masked directory", nil, "ls /etc", ""},
		{"read-only path", nil, "echo x > /proc/sys/kernel/domainname || echo no", "/bin/sh: can't create /proc/sys/kernel/domainname: Read-only file system\nno\n"},
		{"old root is gone", nil, "ls / | grep -c rootfs; grep -c ' / / ' /proc/self/mountinfo", "0\n0\n"},
		{"no descriptor of ours", nil, "ls /proc/self/fd", "0\n1\n2\n3\n"},
		{"loopback is up", nil, "ip -o addr show lo | grep -c 127.0.0.1", "1\n"},
		{"null device", nil, "stat -c %t,%T /dev/null", "1,3\n"},
		{"links", nil, "readlink /dev/fd", "/proc/self/fd\n"},
		{"capabilities", nil, "grep Cap /proc/self/status", "CapInh:\t0000000000000000\nCapPrm:\t00000000000000e1\nCapEff:\t00000000000000e1\nCapBnd:\t00000000000000e1\nCapAmb:\t0000000000000000\n"},
		{"working directory is made", func(s *specs.Spec) { s.Process.Cwd = "/a/b" }, "pwd", "/a/b\n"},
		{"sysctl", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} }, "cat /proc/sys/net/ipv4/ip_forward", "1\n"},
		{"read-only root", func(s *specs.Spec) { s.Root = &specs.Root{Readonly: true} }, "echo x > /x || echo no", "/bin/sh: can't create /x: Read-only file system\nno\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, code, err := output(t, bundle(t, tt.edit, "/bin/sh", "-c", tt.script))
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %q (exit %d), want %q", got, code, tt.want)
			}
		})
	}
}

func TestPayloadThatCannotRun(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edit  func(*specs.Spec)
		args  []string
		errno unix.Errno
	}{
		{"missing", nil, []string{"nothing"}, unix.ENOENT},
		{"missing path", nil, []string{"/no/thing"}, unix.ENOENT},
		{"ourselves", nil, []string{"/proc/self/exe"}, unix.ELOOP},
		{"directory", nil, []string{"/tmp"}, unix.EACCES},
		{"workdir through a descriptor", func(s *specs.Spec) { s.Process.Cwd = "/proc/self/fd/7" }, []string{"true"}, unix.ENOENT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := output(t, bundle(t, tt.edit, tt.args...))
			if !errors.Is(err, tt.errno) {
				t.Fatalf("got %v, want %v", err, tt.errno)
			}
		})
	}
}

func TestLinkedProcIsRefused(t *testing.T) {
	b := bundle(t, nil, "true")
	image := fmt.Sprint("/proc/self/fd/", b.Rootfs.Fd())
	if err := os.Remove(image + "/proc"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/tmp", image+"/proc"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := output(t, b); !errors.Is(err, unix.ELOOP) {
		t.Fatalf("got %v, want ELOOP", err)
	}
}

func TestExec(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := bundle(t, nil, "sleep", "100")
	c, err := New().Create(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Signal(unix.SIGKILL); _, _ = c.Wait() }()
	r, w, _ := os.Pipe()
	pr := *b.Spec.Process
	pr.Args = []string{"sh", "-c", "hostname; ls /proc/self/fd; exit 3"}
	p, err := c.Exec(context.Background(), Exec{Process: &pr, Stdio: [3]*os.File{nil, w, w}})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	out, _ := io.ReadAll(r)
	code, err := p.Wait()
	if err != nil || code != 3 || string(out) != "box\n0\n1\n2\n3\n" {
		t.Fatalf("got %q, %d, %v", out, code, err)
	}
	pr.Args = []string{"nothing"}
	if _, err := c.Exec(context.Background(), Exec{Process: &pr}); !errors.Is(err, unix.ENOENT) {
		t.Fatalf("got %v", err)
	}
}

func TestTerminal(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := bundle(t, func(s *specs.Spec) {
		s.Process.Terminal = true
		s.Process.ConsoleSize = &specs.Box{Height: 31, Width: 77}
	}, "sh", "-c", "tty; stty size; ls -l /dev/console | grep -c ^crw; exit 5")
	c, err := New().Create(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var out []byte
	buf := make([]byte, 1000)
	for {
		n, err := c.Console().Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			break // EIO: the last process has closed it
		}
	}
	code, err := c.Wait()
	if err != nil || code != 5 || string(out) != "/dev/pts/0\r\n31 77\r\n1\r\n" {
		t.Fatalf("got %q, %d, %v", out, code, err)
	}
}

func TestInit(t *testing.T) {
	// The first process shows nothing of whose copy it is: our command line has paths of the host.
	b := bundle(t, nil, "sh", "-c", "echo $$; tr -d '\\000' </proc/1/cmdline; echo; cat /proc/1/comm; (sleep 0.1 &) ; exit 6")
	b.Init = true
	got, code, err := output(t, b)
	if err != nil || code != 6 || got != "2\ninit\ninit\n" {
		t.Fatalf("got %q, %d, %v", got, code, err)
	}
}

func BenchmarkRun(b *testing.B) {
	bu := bundle(b, nil, "true")
	for b.Loop() {
		if _, code, err := output(b, bu); err != nil || code != 0 {
			b.Fatal(code, err)
		}
	}
}

// Links that lead to nothing are followed, beneath the root, and what they lead to is made; links to what is covered by a mount are not.
func TestDanglingLinks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, link, to, target, want string }{
		{"relative", "var/resolv.conf", "../run/systemd/stub.conf", "/var/resolv.conf", "/run/systemd/stub.conf"},
		{"absolute", "var/resolv.conf", "/a/b", "/var/resolv.conf", "/a/b"},
		{"above the root", "var/resolv.conf", "../../../../a", "/var/resolv.conf", "/a"},
		{"on the way", "var/x", "/nowhere", "/var/x/y/z", "/nowhere/y/z"},
		{"below a mount", "dev/x", "/var/x", "/dev/x", "/dev/x"},
		{"into a mount", "var/x", "/dev/x", "/var/x", "/dev/x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := bundle(t, func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: test.target, Type: "bind", Source: file, Options: []string{"bind"}})
				s.Process.Cwd = path.Dir(test.want)
			}, "cat", test.want, test.target)
			link := filepath.Join(b.Rootfs.Name(), test.link)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(test.to, link)); err != nil {
				t.Fatal(err)
			}
			got, code, err := output(t, b)
			if err != nil || code != 0 || got != "content\ncontent\n" {
				t.Fatalf("got %q, %d, %v", got, code, err)
			}
		})
	}
	b := bundle(t, func(s *specs.Spec) { s.Process.Cwd = "/var/work/sub" }, "pwd")
	if err := errors.Join(os.Mkdir(filepath.Join(b.Rootfs.Name(), "var"), 0o755), os.Symlink("../../made", filepath.Join(b.Rootfs.Name(), "var/work"))); err != nil {
		t.Fatal(err)
	}
	if got, code, err := output(t, b); err != nil || code != 0 || got != "/made/sub\n" {
		t.Fatalf("working directory: got %q, %d, %v", got, code, err)
	}
	b = bundle(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/var/a", Type: "bind", Source: file, Options: []string{"bind"}})
	}, "true")
	if err := os.Mkdir(filepath.Join(b.Rootfs.Name(), "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range [][2]string{{"b", "a"}, {"a", "b"}} {
		if err := os.Symlink(l[0], filepath.Join(b.Rootfs.Name(), "var", l[1])); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := output(t, b); !errors.Is(err, unix.ELOOP) {
		t.Fatalf("a circle of links: %v", err)
	}
}

func TestTargetThatIsNoDirectory(t *testing.T) {
	b := bundle(t, nil, "true")
	dev := filepath.Join(b.Rootfs.Name(), "dev")
	if err := errors.Join(os.Remove(dev), os.WriteFile(dev, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := output(t, b); !errors.Is(err, unix.ENOTDIR) {
		t.Fatalf("got %v", err)
	}
}
