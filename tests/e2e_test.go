package tests

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts find the program through these; tests/suite.sh builds it and sets them.
const (
	envWhole = "SKIFF_E2E_WHOLE" // directory with skiff, the whole program
	envPair  = "SKIFF_E2E_PAIR"  // directory with bin/skiff and libexec/skiff/skiff-engine
	envCache = "SKIFF_E2E_CACHE" // directory for images that take long to make
	envSmall = "SKIFF_E2E_SMALL" // directory with a small file system for each shape, "whole" and "pair"
	// When set, a script goes on after a failure: to see all that is wrong at once.
	envKeepGoing = "SKIFF_E2E_KEEP_GOING"
)

func TestE2E(t *testing.T) {
	shapes := []struct{ name, bin string }{
		{"whole", os.Getenv(envWhole)},
		{"pair", os.Getenv(envPair)},
	}
	ran := false
	for _, s := range shapes {
		if s.bin == "" {
			continue
		}
		ran = true
		if s.name == "pair" {
			s.bin = filepath.Join(s.bin, "bin")
		}
		t.Run(s.name, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                "e2e",
				Setup:              func(env *testscript.Env) error { return setUp(env, s.name, s.bin) },
				Cmds:               scriptCommands(),
				Condition:          condition,
				RequireUniqueNames: true,
				ContinueOnError:    os.Getenv(envKeepGoing) != "",
			})
			t.Run("drivers", func(t *testing.T) { runDrivers(t, s.name, s.bin) })
		})
	}
	if !ran {
		t.Skipf("neither %s nor %s is set: run `make e2e`", envWhole, envPair)
	}
}

// setUp gives a script a user of its own as far as skiff can tell: home, data and run directories, and an image called busybox.
func setUp(env *testscript.Env, shape, bin string) error {
	// The runtime directory is short: sockets lie in it.
	run, err := os.MkdirTemp("/tmp", "sk")
	if err != nil {
		return err
	}
	home := filepath.Join(env.WorkDir, "home")
	data := filepath.Join(home, ".local", "share")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	// Images name files of this directory in their labels; the container's root must be able to walk to bind mounts.
	if err := os.Chmod(env.WorkDir, 0o755); err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	env.Values[scriptT{}] = env.T()
	env.Setenv("HOME", home)
	env.Setenv("XDG_DATA_HOME", data)
	env.Setenv("XDG_RUNTIME_DIR", run)
	env.Setenv("DATA", filepath.Join(data, "skiff"))
	env.Setenv("PATH", bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	env.Setenv("SKIFF", filepath.Join(bin, "skiff"))
	env.Setenv("UID", fmt.Sprint(os.Getuid()))
	env.Setenv("GID", fmt.Sprint(os.Getgid()))
	env.Setenv("LIMITS", os.Getenv("SKIFF_TEST_CGROUP")) // a control group that the user may use
	env.Setenv("SHAPE", shape)
	if bus, ok := userBus(); ok {
		env.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+bus) // scripts have a runtime directory of their own
	}
	env.Setenv("ROOMS", filepath.Join(here, "rooms")) // hosts of one's own
	env.Setenv("LANG", "C.UTF-8")
	env.Setenv("TERM", "xterm")
	env.Defer(func() { tearDown(env.Vars, run) })

	archive := filepath.Join(env.WorkDir, "busybox.tar")
	if err := writeBusybox(archive); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, "skiff"), "load", "-q", "-i", archive)
	cmd.Env, cmd.Dir = env.Vars, env.WorkDir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot load the busybox image: %w\n%s", err, out)
	}
	return nil
}

// tearDown ends what a script left running and deletes its files, those of subordinate ids too.
func tearDown(vars []string, run string) {
	sh := func(script string) {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = vars
		_ = cmd.Run()
	}
	sh(`export HOME=${DATA%/.local/share/skiff} XDG_RUNTIME_DIR=` + run + `
		ids=$($SKIFF ps -aq 2>/dev/null) && test -n "$ids" && timeout 20 $SKIFF rm -f -v $ids
		test ! -x $WORK/skiff-oci || for id in $($WORK/skiff-oci list -q); do $WORK/skiff-oci delete --force $id; done
		test ! -f $XDG_RUNTIME_DIR/libpod/tmp/pause.pid || kill $(cat $XDG_RUNTIME_DIR/libpod/tmp/pause.pid) # podman's, which would stay
		timeout 20 $SKIFF unshare sh -c 'chmod -R u+rwX "$0"; rm -rf "$0"' "$DATA"
		chmod -R u+rwX "$HOME" "$DATA"`)
	_ = os.RemoveAll(run)
}

// userBus is where the test user's message bus listens, if there is one.
func userBus() (string, bool) {
	bus := fmt.Sprintf("/run/user/%d/bus", os.Getuid())
	_, err := os.Stat(bus)
	return bus, err == nil
}

// smallDisk is held by the script that has the small file system of its shape to itself.
var smallDisk = map[string]*sync.Mutex{"whole": {}, "pair": {}}

// cmdSmallDisk waits until no other script uses the small file system, whose directory $SMALL is then: smalldisk.
func cmdSmallDisk(ts *testscript.TestScript, _ bool, _ []string) {
	dir, shape := os.Getenv(envSmall), ts.Getenv("SHAPE")
	if dir == "" {
		ts.Fatalf("there is no small file system: ask for [small] first")
	}
	smallDisk[shape].Lock()
	ts.Defer(smallDisk[shape].Unlock)
	ts.Setenv("SMALL", filepath.Join(dir, shape))
}

// delegated says whether the user's systemd has a controller of cgroup v2 to give.
func delegated(controller string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%[1]d.slice/user@%[1]d.service/cgroup.controllers", os.Getuid()))
	return err == nil && slices.Contains(strings.Fields(string(text)), controller)
}

// condition answers the conditions of scripts beyond testscript's own.
func condition(name string) (bool, error) {
	switch {
	case name == "full":
		return os.Getenv("SKIFF_E2E_FULL") != "", nil
	case name == "mirrors": // of packages, which only the full run asks
		if os.Getenv("SKIFF_E2E_FULL") == "" {
			return false, nil
		}
		for _, host := range []string{"deb.debian.org:80", "proxy.golang.org:443", "registry.npmjs.org:443"} {
			conn, err := net.DialTimeout("tcp", host, 5*time.Second)
			if err != nil {
				return false, nil
			}
			_ = conn.Close()
		}
		return true, nil
	case name == "systemd":
		_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
		_, ok := userBus()
		return err == nil && ok, nil
	case name == "io": // limits of disks can be applied, and there is a disk for it
		_, err := os.Stat("/dev/vdb")
		return err == nil && delegated("io"), nil
	case name == "undelegated":
		return delegated("memory") && !delegated("io"), nil
	case name == "small":
		return os.Getenv(envSmall) != "", nil
	case name == "mapauto":
		return exec.Command("unshare", "-Ur", "--map-auto", "true").Run() == nil, nil
	case name == "binfmt": // emulators can be registered in a user namespace
		return exec.Command("unshare", "-Urm", "mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc").Run() == nil, nil
	case name == "root":
		return os.Getuid() == 0, nil
	case name == "cgroup2":
		_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
		return err == nil, nil
	case name == "ping":
		data, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range")
		return err == nil && !strings.HasPrefix(string(data), "1\t0"), nil
	case name == "limits":
		return os.Getenv("SKIFF_TEST_CGROUP") != "", nil
	case name == "tun":
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			return false, nil
		}
		return true, f.Close()
	case name == "fuse":
		f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
		if err == nil {
			_ = f.Close()
		}
		_, noProgram := exec.LookPath("fuse-overlayfs")
		return err == nil && noProgram == nil, nil
	case strings.HasPrefix(name, "file:"):
		_, err := os.Stat(strings.TrimPrefix(name, "file:"))
		return err == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}
