//go:build !front

package commands

import (
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/run/config"
)

func TestParseResource(t *testing.T) {
	tests := []struct {
		text string
		want config.Limits
		err  string
	}{
		{"memory=64m", config.Limits{Memory: 64 << 20}, ""},
		{"memory=64m,memory-swap=-1", config.Limits{Memory: 64 << 20, MemorySwap: -1}, ""},
		{"cpu-shares=5,cpu-period=1000,cpu-quota=500", config.Limits{CPUShares: 5, CPUPeriod: 1000, CPUQuota: 500}, ""},
		{"cpuset-cpus=0-1,3,cpuset-mems=0", config.Limits{CPUSetCPUs: "0-1,3", CPUSetMems: "0"}, ""},
		{"memory=-1", config.Limits{}, ""},
		{"memory", config.Limits{}, "\"memory\" is not KEY=VALUE"},
		{"memory=1m,5", config.Limits{}, "\"5\" is not KEY=VALUE"},
		{"gpu=1", config.Limits{}, "no such resource"},
		{"cpu-shares=x", config.Limits{}, "\"x\" is no number"},
		{"cpuset-cpus=3-1", config.Limits{}, "0-3,5"},
		{"cpuset-cpus=/etc", config.Limits{}, "0-3,5"},
		{"", config.Limits{}, "KEY=VALUE"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			var l config.Limits
			err := parseResource(&l, tt.text)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !l.Equal(tt.want) {
				t.Errorf("got %+v, %v; want %+v", l, err, tt.want)
			}
		})
	}
}

func FuzzParseResource(f *testing.F) {
	f.Add("memory=1m,cpuset-cpus=0,1-2")
	f.Add("=,=")
	f.Fuzz(func(t *testing.T, text string) {
		var l config.Limits
		if err := parseResource(&l, text); err == nil && !strings.Contains(text, "=") {
			t.Errorf("%q is taken for a resource", text)
		}
	})
}
