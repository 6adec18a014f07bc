package cgroup

import (
	"maps"
	"slices"
	"testing"
)

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

func TestHierarchies(t *testing.T) {
	g := &Group{all: map[string]string{"cpu": "/cg/cpu/skiff-abc", "memory": "/cg/memory/skiff-abc", "unified": "/cg/unified/skiff-abc"}}
	got := g.hierarchies("9:name=systemd:/\n4:memory:/u\n3:pids:/u\n2:cpu,cpuacct:/\n0::/\n")
	want := map[string][]string{"cpu": {"cpu", "cpuacct"}, "memory": {"memory"}}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q, want %q", got, want)
	}
}
