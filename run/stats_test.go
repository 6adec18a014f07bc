package run

import "testing"

func TestParseNetDev(t *testing.T) {
	text := "Inter-|   Receive  |  Transmit\n face |bytes    packets errs\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n bad: 1 2\n"
	if in, out := parseNetDev(text); in != 101 || out != 32 {
		t.Errorf("got %d, %d", in, out)
	}
}
