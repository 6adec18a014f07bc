package config

import (
	"strings"
	"testing"
)

func TestResolvConf(t *testing.T) {
	const host = "# the host's\nnameserver\t127.0.0.53\nsearch corp.example\noptions edns0 trust-ad\n"
	for _, tt := range []struct {
		name string
		r    Resolver
		host string
		want string
	}{
		{"the host's", Resolver{}, host, "# the host's|nameserver\t127.0.0.53|search corp.example|options edns0 trust-ad"},
		{"a server", Resolver{Servers: []string{"10.0.0.1"}}, host, "# the host's|search corp.example|nameserver 10.0.0.1|options edns0 trust-ad"},
		{"names", Resolver{Servers: []string{"10.0.0.1"}, Names: true}, host, "# the host's|search corp.example|nameserver 10.0.0.1|options edns0 trust-ad ndots:0"},
		{"search", Resolver{Search: []string{"a.example", "b.example"}}, host, "# the host's|nameserver\t127.0.0.53|search a.example b.example|options edns0 trust-ad"},
		{"no search", Resolver{Search: []string{"."}}, host, "# the host's|nameserver\t127.0.0.53|options edns0 trust-ad"},
		{"search instead of domain", Resolver{Search: []string{"a.example"}}, "domain corp.example\n", "search a.example"},
		{"options", Resolver{Options: []string{"timeout:1"}, Names: true}, host, "# the host's|nameserver\t127.0.0.53|search corp.example|options timeout:1 ndots:0"},
		{"ndots given", Resolver{Options: []string{"ndots:2"}, Names: true}, host, "# the host's|nameserver\t127.0.0.53|search corp.example|options ndots:2"},
		{"ndots of the host", Resolver{Names: true}, "options ndots:5", "options ndots:5"},
		{"no file", Resolver{Servers: []string{"10.0.0.1", "fd00::1"}}, "", "nameserver 10.0.0.1|nameserver fd00::1"},
		{"no end of line", Resolver{}, "nameserver 1.2.3.4", "nameserver 1.2.3.4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := strings.ReplaceAll(tt.want, "|", "\n") + "\n"
			if got := string(tt.r.ResolvConf([]byte(tt.host))); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestResolverWords(t *testing.T) {
	for _, tt := range []struct {
		name     string
		check    func(string) error
		good     []string
		bad      []string
		complain string
	}{
		{"dns", CheckDNS, []string{"1.1.1.1", "fd00::1", "127.0.0.1"}, []string{"", "one.one.one.one", "1.1.1.1:53", "1.1.1"}, "IP address"},
		{"dns-search", CheckSearch, []string{".", "example.org", "example.org.", "a", "_x.b-c"}, []string{"", "a b", "a\nnameserver 1.1.1.1", "a..b", strings.Repeat("a", 64) + ".org"}, "domain"},
		{"dns-option", CheckResolverOption, []string{"ndots:2", "edns0"}, []string{"", "a b", "ndots:2\nnameserver 1.1.1.1"}, "resolv.conf"},
	} {
		for _, s := range tt.good {
			if err := tt.check(s); err != nil {
				t.Errorf("%s %q: %v", tt.name, s, err)
			}
		}
		for _, s := range tt.bad {
			if err := tt.check(s); err == nil || !strings.Contains(err.Error(), tt.complain) {
				t.Errorf("%s %q: %v", tt.name, s, err)
			}
		}
	}
}
