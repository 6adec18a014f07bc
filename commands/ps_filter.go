package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/record"
)

func containerFilterKeys() []string {
	return []string{
		"id", "name", "label", "label!", "exited", "status", "ancestor", "before", "since", "volume", "network",
		"publish", "expose", "is-task", "health",
	}
}

// containerFilter makes the predicate of ps: running ones only unless all is asked for or a filter speaks of other states.
func containerFilter(h *run.Host, list []run.Container, f filters, all bool) (func(run.Container) bool, error) {
	for _, key := range []string{"publish", "expose"} {
		for _, v := range f[key] {
			if _, err := config.ParsePort(v); err != nil || strings.ContainsAny(v, ":=") {
				return nil, fmt.Errorf("invalid filter %q: write a port such as 80, 53/udp or 7000-7009", key+"="+v)
			}
		}
	}
	before, since := -1, -1
	for i, t := range list { // newest first: what is before another one comes after it
		if v := f["before"]; len(v) > 0 && names(t, v[len(v)-1]) {
			before = i
		}
		if v := f["since"]; len(v) > 0 && names(t, v[len(v)-1]) {
			since = i
		}
	}
	if len(f["before"]) > 0 && before < 0 {
		return nil, fmt.Errorf("no such container: %s", f["before"][0])
	}
	if len(f["since"]) > 0 && since < 0 {
		return nil, fmt.Errorf("no such container: %s", f["since"][0])
	}
	for _, s := range f["status"] {
		if !slices.Contains([]string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}, s) {
			return nil, fmt.Errorf("invalid filter 'status=%s': a status is created, running, paused, restarting, removing, exited or dead", s)
		}
	}
	for _, v := range f["health"] {
		if !slices.Contains([]string{record.HealthUnchecked, record.HealthStarting, record.HealthGood, record.HealthBad}, v) {
			return nil, fmt.Errorf("invalid filter 'health=%s': it is starting, healthy, unhealthy or none", v)
		}
	}
	for _, e := range f["exited"] {
		if _, err := strconv.Atoi(e); err != nil {
			return nil, fmt.Errorf("invalid filter 'exited=%s': it is an exit code", e)
		}
	}
	ancestors := imageIDs(h, f["ancestor"])
	all = all || len(f["status"]) > 0 || len(f["exited"]) > 0
	at := map[string]int{}
	for i, t := range list {
		at[t.ID] = i
	}
	return func(t run.Container) bool {
		i := at[t.ID]
		return (all || t.Live()) &&
			(before < 0 || i > before) && (since < 0 || i < since) &&
			f.pattern("id", t.ID) &&
			f.pattern("name", t.Name, "/"+t.Name) && // Docker's names begin with a slash
			f.labels(t.Config.Labels) &&
			f.match("status", func(v string) bool { return v == stateText(t.Status) }) &&
			f.match("exited", func(v string) bool { return exitedWith(t.Status, v) }) &&
			f.match("ancestor", func(v string) bool {
				return t.ImageName == v || t.Config.Image == v || slices.Contains(ancestors, t.ImageID)
			}) &&
			f.match("volume", func(v string) bool { return usesVolume(t, v) }) &&
			f.match("network", func(v string) bool { return slices.Contains(networkNames(&t.Config), v) }) &&
			f.match("publish", func(v string) bool { return publishes(t, v, true) }) &&
			f.match("expose", func(v string) bool { return publishes(t, v, false) }) &&
			f.match("is-task", func(v string) bool { return v == "false" }) &&
			f.match("health", func(v string) bool { return v == healthText(t.Status) })
	}, nil
}

// healthText is Docker's word for a container's health.
func healthText(s record.Status) string {
	if s.Health == nil {
		return record.HealthUnchecked
	}
	return s.Health.Status
}

// names says whether a word names a container, by name or by the beginning of its id.
func names(t run.Container, word string) bool {
	return word != "" && (t.Name == word || strings.HasPrefix(t.ID, word))
}

// imageIDs looks up the images that words name; unknown ones match nothing.
func imageIDs(h *run.Host, words []string) (ids []string) {
	for _, w := range words {
		if img, err := h.Images.Find(w); err == nil {
			ids = append(ids, img.ID)
		}
	}
	return ids
}

func exitedWith(s record.Status, code string) bool {
	switch {
	case s.State == record.Lost:
		return code == "255"
	case s.State != record.Exited || s.Exit == nil:
		return false
	}
	return strconv.Itoa(s.Exit.Code) == code
}

func usesVolume(t run.Container, v string) bool {
	for _, u := range t.Volumes {
		if u.Name == v || u.Target == v {
			return true
		}
	}
	for _, m := range t.Config.Mounts {
		if m.Source == v || m.Target == v {
			return true
		}
	}
	return false
}

// publishes says whether the container has a port that is meant by PORT[-PORT][/PROTOCOL]: one of the host's, or one of its own that it publishes or exposes.
func publishes(t run.Container, v string, host bool) bool {
	wanted, err := config.ParsePort(v)
	if err != nil {
		return false
	}
	if !strings.Contains(v, "/") {
		wanted.Protocol = ""
	}
	ports := publishedPorts(t)
	if !host {
		for _, e := range t.Config.Expose {
			if p, err := config.ParsePort(e); err == nil { // run has said so
				ports = append(slices.Clone(ports), p)
			}
		}
	}
	return slices.ContainsFunc(ports, func(p config.Port) bool {
		first := p.Container
		if host {
			first = p.Host
		}
		last, most := int(first)+max(int(p.Count), 1)-1, int(wanted.Container)+max(int(wanted.Count), 1)-1
		return first != 0 && int(first) <= most && int(wanted.Container) <= last && (wanted.Protocol == "" || wanted.Protocol == p.Protocol)
	})
}
