package monitor

// pasta, as pasta(1) and podman-run(1) have it: the container has a copy of the host's addresses and routes.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// pastaResolver is the name server that pasta answers for, as Podman's.
const pastaResolver = "169.254.1.1"

// pastaOwn are options that are not the user's to give, since they are about how pasta and the monitor find each other.
var pastaOwn = []string{"-P", "--pid", "-f", "--foreground", "-F", "--fd", "--netns", "--netns-only", "--userns", "--no-netns-quit", "--runas", "-h", "--help", "--version"}

// pastaDefaults are what the container gets when none of the options that say otherwise is there. The ports of the container's loopback are its own, and the
// host's loopback is not behind the gateway's address (--map-gw, which is Podman's word, lets it be).
var pastaDefaults = []struct {
	unless, give []string
}{
	{[]string{"-t", "--tcp-ports"}, []string{"-t", "none"}},
	{[]string{"-u", "--udp-ports"}, []string{"-u", "none"}},
	{[]string{"-T", "--tcp-ns"}, []string{"-T", "none"}},
	{[]string{"-U", "--udp-ns"}, []string{"-U", "none"}},
	{[]string{"--map-gw", "--no-map-gw"}, []string{"--no-map-gw"}},
	{[]string{"--dns-forward"}, []string{"--dns-forward", pastaResolver}},
	{[]string{"-q", "--quiet", "-d", "--debug", "--trace"}, []string{"--quiet"}},
}

// pastaArgs are pasta's options: its pid goes to the file pid, the network namespace is bound at the file space.
func (u *userMode) pastaArgs(pid, space string) ([]string, error) {
	args := []string{"--foreground", "--config-net", "--pid", pid}
	there := map[string]bool{"--config-net": true}
	for _, p := range u.ports {
		flag := map[string]string{"tcp": "-t", "udp": "-u"}[p.Protocol]
		if flag == "" {
			return nil, fmt.Errorf("cannot publish a port of protocol %q with pasta: it is tcp or udp", p.Protocol)
		}
		there[flag] = true
		at := ""
		if p.IP.IsValid() {
			at = p.IP.String() + "/"
		}
		args = append(args, flag, fmt.Sprintf("%s%d:%d", at, p.Host, p.Container))
	}
	var given []string
	for _, o := range u.options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case slices.Contains(pastaOwn, name):
			return nil, fmt.Errorf("cannot use --network pasta: its option %s is skiff's own business", name)
		case o == "" || strings.ContainsAny(o, " \t\n"):
			return nil, fmt.Errorf("cannot use --network pasta: %q is no option of pasta; write its options with commas, such as pasta:--mtu,1400", o)
		case o != "--map-gw" && o != "--config-net":
			given = append(given, o)
		}
		there[name] = true
	}
	for _, d := range pastaDefaults {
		if !slices.ContainsFunc(d.unless, func(name string) bool { return there[name] }) {
			args = append(args, d.give...)
		}
	}
	return append(append(args, given...), "--no-netns-quit", "--netns", space), nil
}

// isRoots says whether root of this user namespace is the machine's.
func isRoots() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(data))
	return err == nil && len(f) > 1 && f[0] == "0" && f[1] == "0"
}

// connectPasta starts pasta in the foreground: it says in its pid file that the network is there.
func (u *userMode) connectPasta(pid int) error {
	file := filepath.Join(u.dir, "pasta.pid")
	// The first process lets nobody look at it before it has executed its program; the monitor may, and pasta drops the rights to.
	u.bound = filepath.Join(u.dir, "netns")
	args, err := u.pastaArgs(file, u.bound)
	if err != nil {
		return err
	}
	if isRoots() {
		args = append([]string{"--runas", "0"}, args...) // it takes itself for root of the machine, and would become nobody, who has no rights here
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) { // of a life before
		return fmt.Errorf("cannot start pasta: %w", err)
	}
	if err := disk.WriteFile(u.bound, nil, 0o600, disk.Volatile); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), u.bound, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind the container's network namespace: %w", err)
	}
	if err := u.start(args); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < helperPatience; {
		if data, err := os.ReadFile(file); err == nil && len(data) > 0 {
			return nil
		}
		select {
		case err := <-u.ended:
			return u.failed(err)
		case <-time.After(time.Millisecond):
		}
	}
	return u.failed(fmt.Errorf("it says nothing after %s", helperPatience))
}
