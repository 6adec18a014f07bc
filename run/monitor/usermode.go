package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
)

// The user-mode networks of other rootless tools: a program per container, which is the monitor's child and ends with it. They are started as they are: the drivers of rootlesskit
// are made for a parent that stays outside the user namespace, which a monitor does not.

// Addresses that slirp4netns has unless --cidr says otherwise, counted in its network, and the name server that pasta is given.
const (
	slirpCIDR     = "10.0.2.0/24"
	slirpGuest    = 100
	slirpResolver = 3
	pastaResolver = "169.254.1.1"
)

// helperPatience is how long a helper may take until the network is there.
const helperPatience = 10 * time.Second

// userMode is a container's helper.
type userMode struct {
	name    string
	options []string
	ports   []plug.Port
	cidr    netip.Prefix // of slirp4netns
	dir     string       // the container's runtime directory
	cmd     *exec.Cmd
	ended   chan error // closed when it has ended
	stop    *os.File   // closing it ends slirp4netns
	said    *os.File   // what the helper prints
	bound   string     // where the network namespace is for pasta
}

// CheckUserMode says whether a helper is there and understands its options.
func CheckUserMode(name string, options []string) error {
	if _, err := exec.LookPath(name); err != nil {
		pack := name
		if name == config.Pasta {
			pack = "passt"
		}
		return fmt.Errorf("cannot use --network %s: the program %s is not installed (Debian's package %s); the default network, bridge, needs no program", name, name, pack)
	}
	if name == config.Pasta {
		for _, o := range options {
			if !strings.HasPrefix(o, "-") && !strings.Contains(o, ".") && !strings.Contains(o, ":") && strings.ContainsAny(o, " \t") {
				return fmt.Errorf("cannot use --network pasta: %q is no option of pasta", o)
			}
		}
		return nil
	}
	u := &userMode{name: name, options: options}
	_, err := u.slirpArgs("0")
	return err
}

// openUserMode reads what is asked for; nil when another kind of network is.
func (m *monitor) openUserMode(img *image.Image) (*userMode, error) {
	c := &m.record.Config
	name, options := c.UserMode()
	if name == "" {
		return nil, nil
	}
	u := &userMode{name: name, options: options, dir: m.store.RunDir(m.record.ID)}
	_, err := u.slirpArgs("0")
	if name == config.Slirp && err != nil {
		return nil, err
	}
	u.ports, err = ports(allPorts(c, img))
	for i := range u.ports {
		if err == nil && u.ports[i].Host == 0 {
			u.ports[i].Host, err = freePort(u.ports[i])
		}
	}
	return u, err
}

// freePort finds a port of the host that nothing listens on.
func freePort(p plug.Port) (uint16, error) {
	kind := unix.SOCK_STREAM
	if p.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	at := &unix.SockaddrInet4{}
	if p.IP.Is4() {
		at.Addr = p.IP.As4()
	}
	if err := unix.Bind(fd, at); err != nil {
		return 0, fmt.Errorf("cannot find a free port: %w", err)
	}
	own, err := unix.Getsockname(fd)
	if four, ok := own.(*unix.SockaddrInet4); ok && err == nil {
		return uint16(four.Port), nil
	}
	return 0, fmt.Errorf("cannot find a free port: %w", err)
}

// connect starts the helper for the network namespace of process pid, and waits until the network is there. It runs on the thread that stays, since the helper dies with it.
func (u *userMode) connect(pid int) error {
	if u.name == config.Pasta {
		return u.connectPasta(pid)
	}
	return u.connectSlirp(pid)
}

// start starts the helper with files from descriptor 3 on.
func (u *userMode) start(args []string, files ...*os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	u.said = r
	u.cmd = exec.CommandContext(context.Background(), u.name, args...) // close ends it
	u.cmd.Stdout, u.cmd.Stderr, u.cmd.ExtraFiles = w, w, files
	u.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := u.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", u.name, err)
	}
	u.ended = make(chan error, 1)
	go func() { u.ended <- u.cmd.Wait(); close(u.ended) }()
	return nil
}

// failed is why the helper did not come up, in its own last words.
func (u *userMode) failed(err error) error {
	_ = u.cmd.Process.Kill() // it may have ended
	_ = u.said.SetReadDeadline(time.Now().Add(time.Second))
	text, _ := io.ReadAll(io.LimitReader(u.said, 4096)) // what there is
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		err = errors.New(last)
	}
	return &plug.Refusal{Text: fmt.Sprintf("cannot connect the container with %s: %v", u.name, err), Hint: "the default network, bridge, needs no program"}
}

// slirpArgs are slirp4netns's options as Podman writes them.
func (u *userMode) slirpArgs(target string) ([]string, error) {
	args := []string{"--configure", "--netns-type=path", "--exit-fd=3", "--ready-fd=4", "--api-socket=" + filepath.Join(u.dir, "slirp.sock")}
	mtu, loopback, cidr := "65520", false, slirpCIDR
	for _, o := range u.options {
		key, value, _ := strings.Cut(o, "=")
		on := value == "true"
		switch {
		case key == "mtu" && number(value):
			mtu = value
		case key == "allow_host_loopback" && (on || value == "false"):
			loopback = on
		case key == "enable_ipv6" && (on || value == "false"):
			if on {
				args = append(args, "--enable-ipv6")
			}
		case key == "cidr":
			cidr = value
		case key == "outbound_addr" && value != "":
			args = append(args, "--outbound-addr="+value)
		case key == "outbound_addr6" && value != "":
			args = append(args, "--outbound-addr6="+value)
		case key == "port_handler" && (value == Slirp4netnsHandler || value == "rootlesskit"):
		default:
			return nil, fmt.Errorf("cannot use --network slirp4netns: %q is none of mtu=N, cidr=NET, allow_host_loopback=true|false, enable_ipv6=true|false, outbound_addr=IP, outbound_addr6=IP, port_handler=slirp4netns", o)
		}
	}
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 25 {
		return nil, fmt.Errorf("cannot use --network slirp4netns: cidr=%s is no IPv4 network of /25 or more", cidr)
	}
	u.cidr = prefix.Masked()
	if !loopback {
		args = append(args, "--disable-host-loopback")
	}
	return append(args, "--cidr="+u.cidr.String(), "--mtu="+mtu, target, "tap0"), nil
}

// Slirp4netnsHandler is the one way there is to publish ports with slirp4netns.
const Slirp4netnsHandler = "slirp4netns"

func number(s string) bool { n, err := strconv.Atoi(s); return err == nil && n > 0 }

// host is the n-th address of slirp4netns's network.
func (u *userMode) host(n byte) netip.Addr {
	a := u.cidr.Addr().As4()
	a[3] += n
	return netip.AddrFrom4(a)
}

func (u *userMode) connectSlirp(pid int) error {
	args, err := u.slirpArgs(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	theirs, stop, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	u.stop = stop
	said, ready, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	err = u.start(args, theirs, ready)
	ready.Close()
	if err != nil {
		return err
	}
	if err = said.SetReadDeadline(time.Now().Add(helperPatience)); err == nil {
		_, err = said.Read(make([]byte, 1))
	}
	if err != nil {
		return u.failed(err)
	}
	for _, p := range u.ports {
		if err := u.forward(p); err != nil {
			_ = u.cmd.Process.Kill() // it may have ended
			return err
		}
	}
	return nil
}

// forward asks slirp4netns for one port (slirp4netns(1), API socket).
func (u *userMode) forward(p plug.Port) error {
	type arguments struct {
		Protocol  string `json:"proto"`
		HostAddr  string `json:"host_addr"`
		HostPort  uint16 `json:"host_port"`
		GuestPort uint16 `json:"guest_port"`
	}
	at := "0.0.0.0"
	if p.IP.IsValid() {
		at = p.IP.String()
	}
	question, err := json.Marshal(struct {
		Execute   string    `json:"execute"`
		Arguments arguments `json:"arguments"`
	}{"add_hostfwd", arguments{p.Protocol, at, p.Host, p.Container}})
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "slirp.sock")
	defer f.Close()
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(u.dir, "slirp.sock")}); err == nil {
		if _, err = f.Write(question); err == nil {
			err = unix.Shutdown(fd, unix.SHUT_WR)
		}
	}
	var answer struct {
		Error struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err == nil {
		err = json.NewDecoder(f).Decode(&answer)
	}
	if err == nil && answer.Error.Desc != "" {
		err = errors.New(answer.Error.Desc)
	}
	if err != nil {
		return &plug.Refusal{Text: fmt.Sprintf("cannot publish port %s:%d/%s with slirp4netns: %v", at, p.Host, p.Protocol, err), Hint: "choose another port, or end what listens on it (`ss -lnp`)"}
	}
	return nil
}

// connectPasta starts pasta in the foreground: it says in its pid file that the network is there.
func (u *userMode) connectPasta(pid int) error {
	file := filepath.Join(u.dir, "pasta.pid")
	args := []string{"--foreground", "--config-net", "--pid", file, "--dns-forward", pastaResolver, "--no-map-gw", "--quiet"}
	kinds := map[string]bool{}
	for _, p := range u.ports {
		flag := map[string]string{"tcp": "-t", "udp": "-u"}[p.Protocol]
		if flag == "" {
			return fmt.Errorf("cannot publish a port of protocol %q: it is tcp or udp", p.Protocol)
		}
		kinds[flag] = true
		at := ""
		if p.IP.IsValid() {
			at = p.IP.String() + "/"
		}
		args = append(args, flag, fmt.Sprintf("%s%d:%d", at, p.Host, p.Container))
	}
	for _, flag := range []string{"-t", "-u", "-T", "-U"} { // ports of the container's loopback are the container's
		if !kinds[flag] {
			args = append(args, flag, "none")
		}
	}
	// The first process lets nobody look at it before it has executed its program; the monitor may, and pasta drops the rights to.
	u.bound = filepath.Join(u.dir, "netns")
	if err := disk.WriteFile(u.bound, nil, 0o600, disk.Volatile); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", pid), u.bound, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind the container's network namespace: %w", err)
	}
	args = append(append(args, u.options...), "--no-netns-quit", "--netns", u.bound)
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

// resolver is the name server in the container's network.
func (u *userMode) resolver() []string {
	if u.name == config.Pasta {
		return []string{pastaResolver}
	}
	return []string{u.host(slirpResolver).String()}
}

// close ends the helper.
func (u *userMode) close() {
	if u == nil || u.cmd == nil || u.cmd.Process == nil {
		return
	}
	if u.stop != nil {
		u.stop.Close()
	}
	_ = u.cmd.Process.Kill() // it may have ended
	<-u.ended                // its ports are free then
	if u.bound != "" {
		_ = unix.Unmount(u.bound, unix.MNT_DETACH) // it goes with our mount namespace
	}
	u.said.Close()
}
