package monitor

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

func TestMACOf(t *testing.T) {
	id := "ff1122334455" + strings.Repeat("0", 52)
	if got := macOf(id); got != "02:ff:11:22:33:44" {
		t.Errorf("got %s", got)
	}
}

func TestAwaitUptime(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	for name, at := range map[string]time.Duration{"long ago": 0, "before the start": -time.Hour, "now": uptime(), "soon": uptime() + 5*time.Millisecond} {
		if !awaitUptime(ctx, at) || uptime() < at {
			t.Errorf("%s: it did not wait", name)
		}
	}
	time.AfterFunc(5*time.Millisecond, cancel)
	for _, at := range []time.Duration{uptime() + time.Hour, forever} {
		if awaitUptime(ctx, at) {
			t.Errorf("it has waited until %v", at)
		}
	}
}

// How a life of a container comes to its address.
func TestNICQuestion(t *testing.T) {
	own := netip.MustParsePrefix("10.0.3.7/24")
	tests := []struct {
		name  string
		lease *stage.Lease
		asked time.Duration
		want  string
	}{
		{"the first", nil, 0, stage.LeaseObtain},
		{"one that holds", &stage.Lease{Address: own, Length: time.Hour}, uptime(), stage.LeaseSet},
		{"one that is over", &stage.Lease{Address: own, Length: time.Hour}, uptime() - 2*time.Hour, stage.LeaseObtain},
		{"one for ever", &stage.Lease{Address: own}, uptime() - 1000*time.Hour, stage.LeaseSet},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &nic{NIC: config.NIC{Bridge: "br"}, lease: tt.lease, asked: tt.asked}
			q, err := n.question()
			if err != nil || q.Do != tt.want || q.Lease != tt.lease {
				t.Errorf("got %+v and %v, want %s", q, err, tt.want)
			}
		})
	}
	n := &nic{NIC: config.NIC{Bridge: "nosuchbridge", Address: own.Addr()}}
	if _, err := n.question(); err == nil || !strings.Contains(err.Error(), "no bridge nosuchbridge") {
		t.Errorf("a fixed address on no bridge: %v", err)
	}
}

func TestNICRecord(t *testing.T) {
	n := &nic{network: "lxc-user-nic:br", NIC: config.NIC{MAC: "02:00:00:00:00:01"}}
	var s record.Started
	n.record(&s)
	if len(s.Networks) != 1 || s.Networks[0].IPv4 != "" || !strings.HasPrefix(n.hosts("c"), "127.0.1.1\t") {
		t.Errorf("without an address: %+v, %q", s.Networks, n.hosts("c"))
	}
	n.lease = &stage.Lease{Address: netip.MustParsePrefix("10.0.3.7/24"), Gateway: netip.MustParseAddr("10.0.3.1"), Servers: []netip.Addr{netip.MustParseAddr("10.0.3.2")}, Search: []string{"lxc.example"}}
	n.record(&s)
	if e := s.Networks[0]; len(s.Networks) != 1 || e.Network != n.network || e.IPv4 != "10.0.3.7/24" || e.Gateway4 != "10.0.3.1" || e.MAC != n.MAC {
		t.Errorf("got %+v", s.Networks)
	}
	servers, search := n.resolver()
	if len(servers) != 1 || servers[0] != "10.0.3.2" || len(search) != 1 || n.hosts("c") != "10.0.3.7\tc\n" {
		t.Errorf("got %v, %v and %q", servers, search, n.hosts("c"))
	}
}
