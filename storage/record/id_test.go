package record

import "testing"

// One in 280 ids begins with twelve decimal digits: "hostname -i" in such a container said that there was no such host.
func TestIDsBeginWithAHostName(t *testing.T) {
	for _, c := range []struct {
		beginning string
		name      bool
	}{{"123456789012", false}, {"3673e2094927", true}, {"abcdefabcdef", true}} {
		if hostName(c.beginning) != c.name {
			t.Errorf("%s: %v", c.beginning, !c.name)
		}
	}
	for range 5000 {
		if id := NewID(); len(id) != 64 || !hostName(id[:12]) {
			t.Fatalf("%s", id)
		}
	}
}
