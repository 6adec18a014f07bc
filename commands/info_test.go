package commands

import "testing"

func TestMayPing(t *testing.T) {
	for _, c := range []struct {
		text   string
		groups []int
		want   bool
	}{
		{"1\t0\n", []int{0, 1, 1000}, false}, // nobody: what the kernel begins with
		{"0\t2147483647\n", []int{1000}, true},
		{"100\t200\n", []int{1000, 200}, true},
		{"100\t200\n", []int{99, 201}, false},
		{"100\t200\n", nil, false},
		{"", []int{1}, true},
		{"nonsense", []int{1}, true},
	} {
		if got := mayPing(c.text, c.groups); got != c.want {
			t.Errorf("%q with groups %v: %v", c.text, c.groups, got)
		}
	}
}
