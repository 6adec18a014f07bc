package cgroup

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A real message bus lets us in, answers and refuses.
func TestBus(t *testing.T) {
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	cmd := exec.Command(daemon, "--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:path="+filepath.Join(t.TempDir(), "bus"))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(address))
	socket, err := busSocket()
	if err != nil {
		t.Fatal(err)
	}
	b, err := dialBus(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	var m body
	m.string("org.freedesktop.DBus")
	if err := b.call(call{"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.GetNameOwner", "s"}, m.bytes); err != nil {
		t.Errorf("a call that the bus answers: %v", err)
	}
	for _, tt := range []struct {
		call call
		want string
	}{
		{call{"org.nosuch.Name", "/", "org.nosuch.Interface.Call", ""}, "org.freedesktop.DBus.Error.ServiceUnknown"},
		{call{"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.NoSuchMember", ""}, "org.freedesktop.DBus.Error.UnknownMethod"},
	} {
		if err := b.call(tt.call, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.call.member, err, tt.want)
		}
	}
	if err := b.call(call{"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.GetNameOwner", "s"}, m.bytes); err != nil {
		t.Errorf("after errors: %v", err)
	}
	// This bus has no systemd.
	if _, err := enterScope("skiff-test"); err == nil || !strings.Contains(err.Error(), "gives no scope") {
		t.Errorf("a scope from a bus without systemd: %v", err)
	}
}

func TestNoBus(t *testing.T) {
	for name, env := range map[string][2]string{"nothing": {"", ""}, "no path": {"tcp:host=x", ""}, "no socket": {"", "/nosuch"}, "relative": {"", "run"}} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", env[0])
		t.Setenv("XDG_RUNTIME_DIR", env[1])
		if socket, err := busSocket(); err == nil {
			t.Errorf("%s: %s", name, socket)
		}
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/tmp/x,guid=1")
	if socket, err := busSocket(); err != nil || socket != "@/tmp/x" {
		t.Errorf("an abstract name: %q, %v", socket, err)
	}
	if _, err := dialBus(filepath.Join(t.TempDir(), "nosuch")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a socket that is not there: %v", err)
	}
}

// What comes from a bus is a message, or an error in time.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("l\x03\x01\x01\x08\x00\x00\x00\x01\x00\x00\x00\x0f\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00\x04\x01s\x00\x02\x00\x00\x00a.b\x00\x00\x00\x00\x00\x03\x00\x00\x00abc\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		go func() {
			_, _ = w.Write(data)
			w.Close()
		}()
		b := &bus{file: r}
		for range data {
			if _, _, _, err := b.receive(); err != nil {
				break
			}
		}
	})
}
