package tests

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// driver is one way to have a network, and what it promises. The script drivers/conformance.txtar holds each to it.
type driver struct {
	name    string
	network string // of run's --network
	setUp   string // shell commands before
	end     string // and after
	last    string // when nothing of it is to be looked at any more
	program string // that must be installed
	uplink  string // SKIFF_UPLINK
	// promises are conditions of the script: own-address (another than lo's), gateway (a default route), names (the host's resolver answers), world (servers on the
	// host's addresses are reached), ports (-p), refuses-ports (-p is an error), hosts (everything is the host's), shared (everything is another container's), needs-switch, helper (a program of
	// the monitor's), room (skiff is that of a host of its own), router (the address for the host's loopback is the router's when it was not asked for, which is left alone).
	promises string
	// How the host's loopback is reached when it is asked for: another --network, a flag more, and the host's address then. Nothing: not at all.
	loopback, flag, address string
}

func drivers() []driver {
	const served = "own-address gateway names world ports needs-switch"
	const gateway = "--add-host=host:host-gateway"
	return []driver{
		{name: "bridge", network: "bridge", promises: served, flag: gateway, address: "198.18.255.1"},
		{name: "stack", network: "bridge", uplink: "stack", promises: served, flag: gateway, address: "198.18.255.1"},
		{
			name: "user", network: "mine", promises: served, flag: gateway, address: "198.18.255.1",
			setUp: "skiff network create --ipv6 mine", end: "skiff network rm mine",
		},
		{
			name: "macvlan", network: "over", promises: served, flag: gateway, address: "198.18.255.1",
			setUp: "skiff network create mine; skiff network create -d macvlan -o parent=mine over", end: "skiff network rm over; skiff network rm mine",
		},
		{name: "slirp4netns", network: "slirp4netns", program: "slirp4netns", promises: "own-address gateway names world ports helper", loopback: "slirp4netns:allow_host_loopback=true", address: "10.0.2.2"},
		// The host's addresses are the container's own there.
		{name: "pasta", network: "pasta", program: "pasta", promises: "own-address gateway names ports helper router", loopback: "pasta:--map-gw", address: "GATEWAY"},
		// In a host of its own, where skiff is called by a user of that one. Its server tells of a name server that nobody is.
		{
			name: "lxc-user-nic", network: "lxc-user-nic", program: "/usr/libexec/lxc/lxc-user-nic", promises: "own-address gateway refuses-ports room",
			setUp: "setsid sh $ROOMS/lxc_commands.sh >$WORK/room.log 2>&1 & until [ -e $WORK/room ]; do kill -0 $! || { cat $WORK/room.log >&2; exit 1; }; sleep 0.1; done",
			last:  "room=$(cat $WORK/room); kill $room; while kill -0 $room 2>/dev/null; do sleep 0.1; done",
		},
		{name: "host", network: "host", promises: "hosts own-address gateway names world"},
		{name: "none", network: "none"},
		{
			name: "container", network: "container:other", promises: strings.Replace(served, "ports", "ports shared refuses-ports", 1),
			setUp: "skiff network create mine; skiff run -d --name other --network mine -p 80 busybox sleep 1000", end: "skiff rm -f other; skiff network rm mine",
		},
	}
}

// runDrivers runs the conformance script for each driver.
func runDrivers(t *testing.T, shape, bin string) {
	for _, d := range drivers() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Files: []string{filepath.Join("drivers", "conformance.txtar")},
				Setup: func(env *testscript.Env) error {
					if err := setUp(env, shape, bin); err != nil {
						return err
					}
					return d.tell(env)
				},
				Cmds:            scriptCommands(),
				Condition:       d.condition,
				ContinueOnError: os.Getenv(envKeepGoing) != "",
			})
		})
	}
}

// tell gives the script its words.
func (d driver) tell(env *testscript.Env) error {
	env.Setenv("SKIFF_UPLINK", d.uplink)
	publisher, port := "c", "80"
	if d.has("shared") {
		publisher = "other"
	}
	if d.has("hosts") {
		l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
		if err != nil {
			return err
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		if err := l.Close(); err != nil {
			return err
		}
	}
	address := d.address
	if address == "GATEWAY" {
		address = hostGateway()
	}
	loopback := d.loopback
	if loopback == "" {
		loopback = d.network
	}
	flag := d.flag
	if flag == "" {
		flag = "--init=false"
	}
	for k, v := range map[string]string{
		"NETWORK": d.network, "PUBLISHER": publisher, "SERVERPORT": port, "LOOPBACKNETWORK": loopback, "LOOPBACKFLAG": flag, "HOSTADDRESS": address,
	} {
		env.Setenv(k, v)
	}
	if d.has("room") {
		env.Setenv("PATH", filepath.Join(env.WorkDir, "commands")+":"+env.Getenv("PATH"))
	}
	for name, text := range map[string]string{"setup.sh": d.setUp, "end.sh": d.end, "last.sh": d.last} {
		if err := os.WriteFile(filepath.Join(env.Cd, name), []byte(text+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d driver) has(promise string) bool { return slices.Contains(strings.Fields(d.promises), promise) }

// condition answers the script's: a promise, or what the machine has.
func (d driver) condition(name string) (bool, error) {
	switch name {
	case "own-address", "gateway", "names", "world", "ports", "refuses-ports", "hosts", "shared", "room", "needs-switch", "helper", "router":
		return d.has(name), nil
	case "loopback-asked":
		return d.address != "" && (d.address != "GATEWAY" || hostGateway() != ""), nil
	case "missing-program":
		if all, err := condition("mapauto"); d.has("room") && !all {
			return true, err
		}
		_, err := exec.LookPath(d.program)
		return d.program != "" && err != nil, nil
	case "host-address":
		out, err := exec.Command("busybox", "ip", "-o", "-4", "addr", "show", "scope", "global").Output()
		return err == nil && len(out) > 0, nil
	case "host-resolver":
		out, _ := exec.Command("busybox", "nslookup", "skiff-test.invalid").CombinedOutput() // it says NXDOMAIN and fails
		return strings.Contains(string(out), "NXDOMAIN"), nil
	}
	return condition(name)
}

// hostGateway is the address of the host's default router, "" without one.
func hostGateway() string {
	out, err := exec.Command("busybox", "ip", "route").Output()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "default" && f[1] == "via" {
			return f[2]
		}
	}
	return ""
}
