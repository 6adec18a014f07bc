package plug

// Interfaces on bridges of the host's, for --network lxc-user-nic. LXC's set-uid program makes them for those whom /etc/lxc/lxc-usernet (lxc-usernet(5)) allows it. It has rights over the host's network only where
// the real user's process is in the host's user namespace: so it is the front that runs it, not a monitor.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
)

// NICName is what the interface is called in the container.
const NICName = "eth0"

// allowance is the file in which the administrator says who may have how many interfaces on which bridge.
const allowance = "/etc/lxc/lxc-usernet"

// nicPatience is how long the program may take. It is not ended: an interface that it has half made would stay on the bridge.
const nicPatience = 30 * time.Second

// nicProgram finds the set-uid program, where distributions have it.
func nicProgram(n config.NIC) (string, error) {
	places := []string{n.Binary}
	if n.Binary == "" {
		arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
		places = []string{
			"/usr/libexec/lxc/lxc-user-nic",                    // Debian, Fedora
			"/usr/lib/" + arch + "-linux-gnu/lxc/lxc-user-nic", // Ubuntu
			"/usr/lib/lxc/lxc-user-nic",                        // Arch
			"/usr/lib64/lxc/lxc-user-nic",
		}
	}
	for _, path := range places {
		info, err := os.Stat(path)
		switch {
		case err != nil || !info.Mode().IsRegular():
		case info.Mode()&os.ModeSetuid == 0 && os.Geteuid() != 0:
			return "", &Refusal{Text: fmt.Sprintf("cannot use --network %s: %s is not set-uid root", config.LXC, path), Hint: "an administrator allows it with `sudo chmod u+s " + path + "`"}
		default:
			return path, nil
		}
	}
	if n.Binary != "" {
		return "", fmt.Errorf("cannot use --network %s: there is no program %s", config.LXC, n.Binary)
	}
	return "", &Refusal{Text: fmt.Sprintf("cannot use --network %s: the program %s is not installed", config.LXC, filepath.Base(config.LXC)), Hint: "it is part of LXC (Debian's package lxc); the default network, bridge, needs no program"}
}

// CheckNIC says whether the program is there.
func CheckNIC(n config.NIC) error {
	_, err := nicProgram(n)
	return err
}

// FixedNIC is the address that was asked for on the bridge, with its prefix and the bridge's own address, which is the router's. The caller is in the host's network namespace.
func FixedNIC(n config.NIC) (own netip.Prefix, router netip.Addr, err error) {
	failed := func(why string) (netip.Prefix, netip.Addr, error) {
		return own, router, &Refusal{Text: fmt.Sprintf("cannot give the container the address %s on bridge %s: %s", n.Address, n.Bridge, why), Hint: "see `ip address show " + n.Bridge + "`; without --ip the address comes by DHCP"}
	}
	on, err := bridge(n.Bridge)
	if err != nil {
		return own, router, err
	}
	all, err := on.Addrs()
	if err != nil {
		return own, router, fmt.Errorf("cannot read the addresses of bridge %s: %w", n.Bridge, err)
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Contains(n.Address) {
			continue
		}
		switch last := lastOf(p); {
		case p.Addr() == n.Address:
			return failed("it is the bridge's own")
		case p.Bits() < 31 && (p.Masked().Addr() == n.Address || last == n.Address):
			return failed("it is the network's, or the one for all of its machines")
		}
		return netip.PrefixFrom(n.Address, p.Bits()), p.Addr(), nil
	}
	return failed("the bridge has no address in a network with it")
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

func bridge(name string) (*net.Interface, error) {
	on, err := net.InterfaceByName(name)
	if err != nil {
		return nil, &Refusal{Text: fmt.Sprintf("cannot use --network %s: the host has no bridge %s", config.LXC, name), Hint: "LXC's service lxc-net makes lxcbr0 (Debian's package lxc); another one is named as --network lxc-user-nic:BRIDGE"}
	}
	return on, nil
}

// GiveNIC has the set-uid program put an interface on the bridge into the network namespace of process pid, which belongs to a user namespace of the caller's.
func GiveNIC(n config.NIC, pid int) error {
	program, err := nicProgram(n)
	if err != nil {
		return err
	}
	if _, err := bridge(n.Bridge); err != nil {
		return err
	}
	// The two words before the pid are about LXC's own containers; rootlesskit gives the same.
	cmd := exec.Command(program, "create", "/dev/null", "dummy", strconv.Itoa(pid), "veth", n.Bridge, NICName) //nolint:noctx // see nicPatience
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true} // a Ctrl-C is not its end: see nicPatience
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return nicFailed(n, said.String(), err)
		}
		return nil
	case <-time.After(nicPatience):
		return fmt.Errorf("cannot get an interface on bridge %s: %s does not end", n.Bridge, program)
	}
}

// nicFailed puts what the program says into words. It says "Quota reached" to whom nothing is allowed as well, and before it what went wrong otherwise.
func nicFailed(n config.NIC, said string, err error) error {
	what := fmt.Sprintf("cannot get an interface on bridge %s from %s: ", n.Bridge, config.LXC)
	var reasons []string
	for line := range strings.Lines(said) {
		// ../src/lxc/cmd/lxc_user_nic.c: 593: create_nic: Error attaching veth1001_VapR to lxcbr0
		line = strings.TrimSpace(line)
		if _, after, ok := strings.Cut(line, ".c: "); ok {
			line = strings.TrimLeft(after, "0123456789: ")
		}
		if line != "" {
			reasons = append(reasons, line)
		}
	}
	if len(reasons) == 0 {
		return errors.New(what + err.Error())
	}
	quota := strings.Contains(reasons[len(reasons)-1], "Quota reached")
	if !quota || len(reasons) > 1 && !strings.Contains(reasons[0], allowance) {
		return &Refusal{Text: what + reasons[0], Hint: "it may put interfaces on bridges of the kernel's and on Open vSwitch's; see `ip -d link show " + n.Bridge + "`"}
	}
	name, groups := caller()
	file, _ := os.ReadFile(allowance) // one that is not there allows nothing
	if most := allowed(string(file), name, groups, n.Bridge); most > 0 {
		return &Refusal{
			Text: fmt.Sprintf("%s%s has the %d that %s allows", what, name, most, allowance),
			Hint: fmt.Sprintf("end a container that has one, or have an administrator raise the number in the line `%s veth %s %d`", name, n.Bridge, most),
		}
	}
	return &Refusal{
		Text: fmt.Sprintf("%s%s does not allow it to %s", what, allowance, name),
		Hint: fmt.Sprintf("an administrator allows ten with the line `%s veth %s 10` in that file", name, n.Bridge),
	}
}

// caller is who calls, by name, and the groups.
func caller() (name string, groups []string) {
	me, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid()), nil
	}
	ids, err := me.GroupIds()
	if err != nil {
		return me.Username, nil
	}
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			groups = append(groups, g.Name)
		}
	}
	return me.Username, groups
}

// allowed is how many interfaces on a bridge the file allows to a user (lxc-usernet(5)): NAME or @GROUP, type, bridge, number. The user's own line counts before those of groups.
func allowed(file, name string, groups []string, bridge string) int {
	most := 0
	for line := range strings.Lines(file) {
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != "veth" || f[2] != bridge {
			continue
		}
		n, err := strconv.Atoi(f[3])
		if err != nil {
			continue
		}
		if f[0] == name {
			return n
		}
		for _, g := range groups {
			if f[0] == "@"+g {
				most = max(most, n)
			}
		}
	}
	return most
}
