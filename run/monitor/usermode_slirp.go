package monitor

// slirp4netns, as slirp4netns(1) and podman-run(1) have it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
)

// Addresses that slirp4netns has unless --cidr says otherwise, counted in its network.
const (
	slirpCIDR     = "10.0.2.0/24"
	slirpGuest    = 100
	slirpResolver = 3
)

// slirpSocket is where it is asked for ports.
const slirpSocket = "slirp.sock"

// slirpArgs are slirp4netns's options as Podman writes them.
func (u *userMode) slirpArgs(target string) ([]string, error) {
	args := []string{"--configure", "--netns-type=path", "--exit-fd=3", "--ready-fd=4", "--api-socket=" + filepath.Join(u.dir, slirpSocket)}
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
		case key == "port_handler" && (value == "slirp4netns" || value == "rootlesskit"): // Podman's two; there is one here, which keeps the client's address
		default:
			return nil, fmt.Errorf("cannot use --network slirp4netns: %q is none of mtu=N, cidr=NET, allow_host_loopback=true|false, enable_ipv6=true|false, outbound_addr=IP, outbound_addr6=IP, port_handler=slirp4netns|rootlesskit", o)
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
	if err := os.Remove(filepath.Join(u.dir, slirpSocket)); err != nil && !errors.Is(err, os.ErrNotExist) { // of a life before
		return fmt.Errorf("cannot start slirp4netns: %w", err)
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
	f := os.NewFile(uintptr(fd), slirpSocket)
	defer f.Close()
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(u.dir, slirpSocket)}); err == nil {
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
