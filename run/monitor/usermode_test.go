package monitor

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
)

func TestSlirpArgs(t *testing.T) {
	tests := []struct {
		name    string
		options string
		want    string // part of the arguments, or with "!" not
		fails   string // part of the error
	}{
		{"default", "", "--disable-host-loopback --cidr=10.0.2.0/24 --mtu=65520 NS tap0", ""},
		{"loopback", "allow_host_loopback=true", "!--disable-host-loopback", ""},
		{"no loopback", "allow_host_loopback=false", "--disable-host-loopback", ""},
		{"mtu and cidr", "mtu=1400,cidr=10.9.8.7/24", "--cidr=10.9.8.0/24 --mtu=1400", ""},
		{"IPv6", "enable_ipv6=true", "--enable-ipv6", ""},
		{"no IPv6", "enable_ipv6=false", "!--enable-ipv6", ""},
		{"outbound", "outbound_addr=10.1.1.1,outbound_addr6=fd00::1", "--outbound-addr=10.1.1.1 --outbound-addr6=fd00::1", ""},
		{"port handler", "port_handler=rootlesskit", "NS tap0", ""},
		{"another port handler", "port_handler=magic", "", "port_handler=magic"},
		{"no mtu", "mtu=x", "", "mtu=x"},
		{"neither true nor false", "enable_ipv6=1", "", "enable_ipv6=1"},
		{"unknown", "colour=red", "", "colour=red"},
		{"a small network", "cidr=10.0.0.0/26", "", "10.0.0.0/26"},
		{"no network", "cidr=ten", "", "cidr=ten"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := &userMode{name: config.Slirp, dir: "/d", options: split(tt.options)}
			args, err := u.slirpArgs("NS")
			compare(t, args, err, tt.want, tt.fails)
		})
	}
}

func TestPastaArgs(t *testing.T) {
	tests := []struct {
		name    string
		options string
		ports   []plug.Port
		want    string
		fails   string
	}{
		{"default", "", nil, "-t none -u none -T none -U none --no-map-gw --dns-forward 169.254.1.1 --quiet", ""},
		{
			"ports", "",
			[]plug.Port{{Host: 8080, Container: 80, Protocol: "tcp"}, {IP: netip.MustParseAddr("127.0.0.1"), Host: 53, Container: 53, Protocol: "udp"}},
			"-t 8080:80 -u 127.0.0.1/53:53 -T none -U none", "",
		},
		{"no such protocol", "", []plug.Port{{Host: 1, Container: 1, Protocol: "sctp"}}, "", "sctp"},
		{"raw options", "--mtu,1400,-I,foo", nil, "--quiet --mtu 1400 -I foo --no-netns-quit --netns NS", ""},
		{"raw ports", "-t,8080:80", nil, "!-t none", ""},
		{"raw ports, long", "--tcp-ns=auto", nil, "!-T none", ""},
		{"gateway", "--map-gw", nil, "!map-gw", ""},
		{"no gateway", "--no-map-gw", nil, "--no-map-gw --no-netns-quit", ""},
		{"config-net is given already", "--config-net", nil, "--foreground --config-net --pid", ""},
		{"name server", "--dns-forward,10.1.1.1", nil, "!169.254.1.1", ""},
		{"loud", "--debug", nil, "!--quiet", ""},
		{"words", "-t 80", nil, "", "-t 80"},
		{"ours", "--netns=/x", nil, "", "--netns"},
		{"ours too", "-P,/tmp/x", nil, "", "-P"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := &userMode{name: config.Pasta, ports: tt.ports, options: split(tt.options)}
			args, err := u.pastaArgs("PID", "NS")
			compare(t, args, err, tt.want, tt.fails)
		})
	}
}

func split(options string) []string {
	_, list := (&config.Config{Network: config.Pasta + ":" + options}).UserMode()
	return list
}

func compare(t *testing.T, args []string, err error, want, fails string) {
	t.Helper()
	if fails != "" {
		if err == nil || !strings.Contains(err.Error(), fails) {
			t.Errorf("got %q and %v, want an error with %q", args, err, fails)
		}
		return
	}
	part, not := strings.CutPrefix(want, "!")
	if got := strings.Join(args, " "); err != nil || strings.Contains(got, part) == not {
		t.Errorf("got %q and %v, want %q", got, err, want)
	}
}

// A helper that says more than a pipe holds is not held up, and its first words are kept.
func TestWords(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said words
	said.listen(r)
	if _, err := w.WriteString("pasta: no\n\nFailed to send 9 bytes to syslog\n" + strings.Repeat(strings.Repeat("x", 99)+"\n", 10000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	<-said.end
	lines := said.lines()
	if len(lines) < 2 || lines[0] != "pasta: no" || len(said.text) != maxWords || strings.HasSuffix(lines[1], "syslog") {
		t.Errorf("kept %d bytes, %q", len(said.text), lines[0])
	}
}
