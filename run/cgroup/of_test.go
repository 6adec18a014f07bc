package cgroup

import "testing"

func TestOf(t *testing.T) {
	for name, c := range map[string]struct {
		unified          bool
		text             string
		controller, want string // want "": no group
	}{
		"none, v2":           {true, "0::/user.slice/x\n", "", ""},
		"ours, v2":           {true, "0::/user.slice/skiff-abc\n", "", "/cg/user.slice/skiff-abc"},
		"another's":          {true, "0::/user.slice/skiff-abd\n", "", ""},
		"ours, v1":           {false, "4:memory:/u/skiff-abc\n3:pids:/u\n0::/\n", "memory", "/cg/memory/u/skiff-abc"},
		"v1, not that":       {false, "4:memory:/u/skiff-abc\n3:pids:/u\n0::/\n", "pids", ""},
		"hybrid's other one": {false, "0::/u/skiff-abc\n", "", ""},
		"the id as a parent": {true, "0::/skiff-abc/inner\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if g := (&Host{Unified: c.unified, Root: "/cg"}).of(c.text, "abc"); g != nil {
				got = g.all[c.controller]
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
