package cdi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const spec = `cdiVersion: "0.7.0"
kind: acme.example/gpu
containerEdits: {env: [ALL=1]}
devices:
  - {name: "0", annotations: {org.mobyproject.buildkit.device.class: accelerator}, containerEdits: {deviceNodes: [{path: /dev/g0}]}}
  - {name: "1", containerEdits: {deviceNodes: [{path: /dev/g1, hostPath: /dev/h1, permissions: rw}], mounts: [{hostPath: /l, containerPath: /m, options: [ro]}]}}
`

func open(t *testing.T, text string) *Devices {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spec.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := Open([]string{filepath.Join(dir, "none"), dir})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFind(t *testing.T) {
	d := open(t, spec)
	for word, want := range map[string]string{
		"acme.example/gpu=1": "[acme.example/gpu=1]", "acme.example/gpu=*": "[acme.example/gpu=0 acme.example/gpu=1]", "acme.example/gpu": "[acme.example/gpu=0]", "accelerator": "[acme.example/gpu=0]",
		"acme.example/gpu=2": "", "acme.example/cpu=*": "", "acme.example/": "", "": "", "=": "",
	} {
		got, err := d.Find(word)
		var missing *NotFoundError
		if want == "" && !errors.As(err, &missing) || want != "" && fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v; want %s", word, got, err, want)
		}
	}
}

// What a spec says for all of its devices is there once, before what each of them needs.
func TestEdits(t *testing.T) {
	e, err := open(t, spec).Resolve([]string{"acme.example/gpu=1", "acme.example/gpu=*"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "{[ALL=1] [{/dev/h1 /dev/g1 rw} {/dev/g0 /dev/g0 }] [{ /l /m [ro]}] [] []}"
	if got := fmt.Sprint(e); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A spec that cannot be read is told by whoever looks for a device, and spoils no other.
func TestBroken(t *testing.T) {
	_, err := open(t, "kind: [").Find("acme.example/gpu=1")
	if err == nil || !strings.Contains(err.Error(), "spec.yaml") {
		t.Errorf("got %v", err)
	}
}

func TestDirs(t *testing.T) {
	env := map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": "/r"}
	if got := Dirs(func(name string) string { return env[name] }); !slices.Equal(got, []string{"/etc/cdi", "/var/run/cdi", "/h/.config/cdi", "/r/cdi"}) {
		t.Errorf("got %v", got)
	}
	env = map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "relative"}
	if got := Dirs(func(name string) string { return env[name] }); !slices.Equal(got, []string{"/etc/cdi", "/var/run/cdi", "/c/cdi"}) {
		t.Errorf("got %v", got)
	}
}
