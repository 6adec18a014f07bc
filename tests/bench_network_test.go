package tests

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBenchNetworks measures what networks carry, the contestants one after the other in each round, and prints medians. It judges nothing. All traffic is between
// containers and a server on the host's loopback, which each network is told to let its container reach.
func TestBenchNetworks(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SKIFF_BENCH_NETWORKS"))
	if err != nil {
		t.Skip("SKIFF_BENCH_NETWORKS is not set: run `make bench`")
	}
	b := newSmallBench(t)
	loader := filepath.Join(b.dir, loadName)
	b.must(putSelf(loader))
	hostPort := benchPort(t)
	serve := exec.Command(loader, "serve", "127.0.0.1:"+hostPort)
	b.must(serve.Start())
	t.Cleanup(func() {
		_ = serve.Process.Kill() // it runs until then
		_ = serve.Wait()         // it was killed
	})
	list := b.carriers(loader)
	figures := map[string][]float64{}
	for range rounds {
		for _, c := range list {
			for _, m := range networkMeasures() {
				argv, at := c.inside, net.JoinHostPort(c.host, hostPort)
				switch m.from {
				case "host":
					argv, at = nil, "127.0.0.1:"+c.port
				case "neighbour":
					argv, at = c.neighbour, c.own
				}
				if m.from != "host" && argv == nil || at == "" {
					continue
				}
				argv = append(slices.Clone(argv), loader, m.args[0], at)
				argv = append(argv, m.args[1:]...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
				cmd.Env, cmd.WaitDelay = b.env, time.Second
				out, err := cmd.Output()
				cancel()
				if err != nil {
					t.Logf("%s, %s: %v %s", c.name, m.name, err, stderrOf(err))
					continue
				}
				figure, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
				b.must(err)
				figures[c.name+m.name] = append(figures[c.name+m.name], figure)
			}
		}
	}
	fmt.Printf("\n%-44s", "networks, medians")
	for _, c := range list {
		fmt.Printf(" %20s", c.name)
	}
	for _, m := range networkMeasures() {
		fmt.Printf("\n%-44s", m.name)
		for _, c := range list {
			took := figures[c.name+m.name]
			if len(took) == 0 {
				fmt.Printf(" %20s", "-")
				continue
			}
			slices.Sort(took)
			fmt.Printf(" %20.1f", took[len(took)/2])
		}
	}
	fmt.Println("\n(throughput: ahead of both; connections and round trips: at most 1.3 times the better one's)")
}

type networkMeasure struct {
	name, from string
	args       []string
}

func networkMeasures() []networkMeasure {
	const much = "536870912"
	return []networkMeasure{
		{"container to host, Mbit/s", "container", []string{"up", much}},
		{"host to container, Mbit/s", "container", []string{"down", much}},
		{"into a published port, Mbit/s", "host", []string{"up", much}},
		{"out of a published port, Mbit/s", "host", []string{"down", much}},
		{"container to container, Mbit/s", "neighbour", []string{"up", much}},
		{"connections a second, to host", "container", []string{"connects", "2000", "50"}},
		{"connections a second, published", "host", []string{"connects", "2000", "50"}},
		{"round trip, to host, µs", "container", []string{"rtt", "3000"}},
		{"round trip, published, µs", "host", []string{"rtt", "3000"}},
		{"UDP lost at 500 Mbit/s, to host, %", "container", []string{"udp", "500", "2"}},
		{"UDP lost at 500 Mbit/s, published, %", "host", []string{"udp", "500", "2"}},
	}
}

// carrier is a network with a container on it, which serves at a published port.
type carrier struct {
	name, host, port  string
	inside, neighbour []string // what a command in the container, or in its neighbour, begins with
	own               string   // the container's address and port for its neighbour
}

// carriers starts a container on each network that this machine has the programs for. The users of slirp4netns have it from podman.
func (b *bench) carriers(loader string) []*carrier {
	b.t.Helper()
	var list []*carrier
	start := func(program, name, network, host string, more ...string) {
		port := benchPort(b.t)
		base := []string{program}
		image := "busybox"
		if filepath.Base(program) == "podman" {
			image = "localhost/busybox"
		}
		argv := append([]string{
			"run", "-d", "--name", "net" + strconv.Itoa(len(list)), "--network", network, "-v", loader + ":" + loader,
			"-p", "127.0.0.1:" + port + ":5000", "-p", "127.0.0.1:" + port + ":5000/udp",
		}, more...)
		argv = append(argv, image, loader, "serve", ":5000")
		cmd := exec.Command(program, argv...)
		cmd.Env = b.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.t.Logf("left out %s: %v %s", name, err, out)
			return
		}
		own := "net" + strconv.Itoa(len(list))
		b.t.Cleanup(func() {
			cmd := exec.Command(program, "rm", "-f", "-t", "0", own)
			cmd.Env = b.env
			_ = cmd.Run() // it may have ended
		})
		c := &carrier{name: name, host: host, port: port, inside: append(base, "exec", own)}
		if host == "" {
			cmd := exec.Command(program, "exec", own, "sh", "-c", "ip route | awk '/^default/ { print $3; exit }'")
			cmd.Env = b.env
			gateway, err := cmd.Output()
			b.must(err)
			c.host = strings.TrimSpace(string(gateway))
		}
		if network == "bridge" {
			b.skiff("run", "-d", "--name", "neighbour", "-v", loader+":"+loader, "busybox", "sleep", "10000")
			c.neighbour = []string{program, "exec", "neighbour"}
			c.own = b.skiff("inspect", "-f", "{{.NetworkSettings.IPAddress}}", own) + ":5000"
		}
		list = append(list, c)
	}
	start(b.bin, "skiff, bridge", "bridge", "host", "--add-host=host:host-gateway")
	if _, err := exec.LookPath("pasta"); err == nil {
		start(b.bin, "pasta (skiff)", "pasta:--map-gw", "")
	}
	if err := b.podman(filepath.Join(b.dir, "bundle", "rootfs")); err == nil {
		start("podman", "slirp4netns (podman)", "slirp4netns:allow_host_loopback=true", "10.0.2.2")
	} else {
		b.t.Logf("slirp4netns without podman: %v", err)
		start(b.bin, "slirp4netns (skiff)", "slirp4netns:allow_host_loopback=true", "10.0.2.2")
	}
	time.Sleep(time.Second)
	return list
}

func benchPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a socket
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func stderrOf(err error) string {
	if exit, ok := err.(*exec.ExitError); ok {
		return strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}
