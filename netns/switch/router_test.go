package netswitch

// A container that is a router: what runs containers or virtual machines inside, with another MTU than ours, passes streams on.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/tests/inside"
)

// router makes the container one, with a namespace behind it that has an interface of the usual 1500 bytes, and masquerades what comes from there.
func (w *site) router(t *testing.T) (behind inside.Thread) {
	t.Helper()
	behind, namespace := newInsider(t)
	address := func(name string, last byte) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, p := range []string{fmt.Sprintf("10.99.0.%d/24", last), fmt.Sprintf("fd99::%d/64", last)} {
			a, err := netlink.ParseAddr(p)
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	}
	w.inside.Do(t, func() error {
		for _, knob := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+knob, []byte("1"), 0); err != nil {
				return err
			}
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "down", 1500
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "up", PeerNamespace: netlink.NsFd(namespace.Fd()), PeerMTU: 1500}
		if err := errors.Join(netlink.LinkAdd(pair), address("down", 1)); err != nil {
			return err
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "router"})
		chain := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(ifName(expr.MetaKeyOIFNAME, "eth0"), &expr.Masq{})})
		return c.Flush()
	})
	behind.Do(t, func() error {
		if err := address("up", 2); err != nil {
			return err
		}
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("10.99.0.1")}), netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("fd99::1")}))
	})
	return behind
}

// tooBig is how many packets the container did not pass on since they were too large.
func (w *site) tooBig(t *testing.T) (total int) {
	t.Helper()
	w.inside.Do(t, func() error {
		six, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		four, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(six)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6FragFails" {
				_, err = fmt.Sscan(f[1], &total)
			}
		}
		lines := strings.Split(string(four), "\n") // of names and of numbers, those of IP first
		names, numbers := strings.Fields(lines[0]), strings.Fields(lines[1])
		for i, name := range names {
			if name == "FragFails" {
				var n int
				_, err2 := fmt.Sscan(numbers[i], &n)
				total, err = total+n, errors.Join(err, err2)
			}
		}
		return err
	})
	return total
}

// Pieces of more than 64 KB of IPv6 carry a header that such a router counts in: it would take what fits for too large, and the stream would crawl.
func TestStreamsPassARouterInAContainer(t *testing.T) {
	w := begin(t, "relay")
	behind := attach(t, w.hub, 3, false)
	inner := behind.router(t)
	const size = 16 << 20
	for name, server := range map[string]netip.Addr{"IPv4": w.four, "IPv6": w.six} {
		t.Run(name, func(t *testing.T) {
			var l net.Listener
			w.inside.Do(t, func() (err error) {
				l, err = net.Listen("tcp", netip.AddrPortFrom(server, 0).String())
				return err
			})
			t.Cleanup(func() { _ = l.Close() }) // at the end of the test
			sent := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					_, err = conn.Write(make([]byte, size))
					err = errors.Join(err, conn.Close())
				}
				sent <- err
			}()
			var conn net.Conn
			inner.Do(t, func() (err error) {
				conn, err = net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
				return err
			})
			t.Cleanup(func() { _ = conn.Close() }) // it is at its end
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, conn)
			if err := errors.Join(err, <-sent); err != nil || n != size {
				t.Errorf("%d bytes of %d came through: %v", n, size, err)
			}
			if n := behind.tooBig(t); n > 0 {
				t.Errorf("the router found %d packets too large", n)
			}
		})
	}
}
