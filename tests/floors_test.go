package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/skiff-containers/skiff"

// tags are the build tags that every build of the program has.
const tags = "containers_image_openpgp,exclude_graphdriver_btrfs,exclude_graphdriver_zfs,containers_image_docker_daemon_stub,urfave_cli_no_docs"

// floors is ARCHITECTURE.md's table: a package imports lower floors only, never its own.
func floors() map[string]int {
	return map[string]int{
		"run/config": 0, "run/seccomp": 0, "run/fork": 0, "storage/disk": 0, "storage/ref": 0, "storage/plain": 0,
		"run/oci": 1, "run/stage": 1, "run/cgroup": 1, "run/userns": 1, "run/log": 1, "run/cdi": 1, "netns": 1, "storage/record": 1, "storage/image": 1, "storage/layer": 1, "storage/volume": 1, "storage/archive": 1,
		"run/spec": 2, "run/hook": 2, "run/processes": 2, "storage": 2, "netns/plug": 2, "netns/dhcp": 2, "netns/switch/relay": 2,
		"run/monitor": 3, "run/bundle": 3, "pull": 3, "netns/switch/uplink": 3,
		"netns/switch": 4,
		"run":          4,
		"build/files":  1, "build/snap": 3, "build/ops": 4,
		"build":    5,
		"commands": 7,
		"":         8,
	}
}

// sameFloor are the pairs of one floor where the first may import the second, each with its reason.
func sameFloor() map[[2]string]string {
	return map[[2]string]string{}
}

// banned are the imports that the front may not link, nor the switch: prefix and reason.
func banned() [][2]string {
	return [][2]string{
		{"go.podman.io/", "containers/storage and containers/image belong to the engine (3 ms and more of start-up)"},
		{"net/http", "the front talks to no server"},
		{"crypto/tls", "the front talks to no server"},
		{"github.com/moby/buildkit", "building belongs to the engine"},
		{"gvisor.dev/", "the network stack belongs to the engine"},
		{"github.com/sirupsen/logrus", "initialises at each start"},
		{"github.com/insomniacslk/dhcp", "asking for addresses belongs to the engine"},
		{"google.golang.org/", "nothing in the front speaks protobuf"},
		{"testing", "tests are not part of the program"},
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Module     *struct{ Path string }
	Error      *struct{ Err string }
	DepsErrors []*struct{ Err string }
}

// list asks go for all packages that the program links with these build tags.
func list(t *testing.T, tags string) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Module,Error,DepsErrors", "-tags", tags, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	pkgs := map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = p
	}
}

// chain is a shortest path of imports from the program to a package, as text.
func chain(pkgs map[string]listed, to string) string {
	from := map[string]string{module: ""}
	for queue := []string{module}; len(queue) > 0; queue = queue[1:] {
		for _, next := range pkgs[queue[0]].Imports {
			if _, seen := from[next]; !seen {
				from[next] = queue[0]
				queue = append(queue, next)
			}
		}
	}
	if _, ok := from[to]; !ok {
		return to
	}
	text := to
	for p := from[to]; p != ""; p = from[p] {
		text = p + "\n\t-> " + text
	}
	return text
}

// room is a package's name within the module.
func room(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

func shapes() map[string]string {
	return map[string]string{"whole": tags, "front": tags + ",front", "switch": tags + ",switch"}
}

func TestFloors(t *testing.T) {
	if os.Getenv("SKIFF_E2E_WHOLE") != "" {
		t.Skip("this is the run of the e2e scripts, made where there is no go")
	}
	for shape, tags := range shapes() {
		t.Run(shape, func(t *testing.T) {
			pkgs := list(t, tags)
			for _, err := range broken(pkgs) {
				t.Error(err)
			}
			for _, ban := range banned() {
				// The name servers of the switch link crypto/tls.
				if shape == "whole" || shape == "switch" && strings.HasPrefix(ban[0], "crypto/") {
					continue
				}
				for path := range pkgs {
					if path == strings.TrimSuffix(ban[0], "/") || strings.HasPrefix(path, strings.TrimSuffix(ban[0], "/")+"/") {
						t.Errorf("the %s links %s (%s):\n\t%s", shape, path, ban[1], chain(pkgs, path))
						break
					}
				}
			}
		})
	}
}

// broken lists the imports that do not point down.
func broken(pkgs map[string]listed) []error {
	var errs []error
	table, excused := floors(), sameFloor()
	for path, p := range pkgs {
		if path != module && !strings.HasPrefix(path, module+"/") {
			continue
		}
		floor, known := table[room(path)]
		if !known {
			errs = append(errs, fmt.Errorf("%s has no floor: give it one in ARCHITECTURE.md section 3 and in floors_test.go", room(path)))
			continue
		}
		for _, imported := range p.Imports {
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			other, known := table[room(imported)]
			if !known || other < floor || excused[[2]string{room(path), room(imported)}] != "" {
				continue
			}
			errs = append(errs, fmt.Errorf("%s (floor %d) imports %s (floor %d):\n\t%s", room(path), floor, room(imported), other, chain(pkgs, path)+"\n\t-> "+imported))
		}
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	return errs
}

// The rule is tested too: it finds an import that points up, one that points sideways, and a room without a floor.
func TestFloorsRule(t *testing.T) {
	tests := []struct {
		name    string
		imports map[string]string
		want    string // part of the error; empty: none
	}{
		{"down", map[string]string{"run": "storage"}, ""},
		{"up", map[string]string{"storage": "run"}, "storage (floor 2) imports run (floor 4)"},
		{"sideways", map[string]string{"pull": "run/monitor"}, "pull (floor 3) imports run/monitor (floor 3)"},
		{"excused", map[string]string{"run/userns": "run/fork"}, ""},
		{"no floor", map[string]string{"attic": "run"}, "attic has no floor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pkgs := map[string]listed{}
			for from, to := range tt.imports {
				pkgs[module+"/"+from] = listed{ImportPath: module + "/" + from, Imports: []string{module + "/" + to}}
			}
			errs := broken(pkgs)
			switch {
			case tt.want == "" && len(errs) > 0:
				t.Errorf("got %v, want none", errs)
			case tt.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want)):
				t.Errorf("got %v, want %q", errs, tt.want)
			}
		})
	}
}
