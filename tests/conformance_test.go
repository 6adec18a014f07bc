package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// envConformance is the directory with the programs of runtime-tools (tests/conformance), runtimetest and their root file system; tests/suite.sh makes it.
const envConformance = "SKIFF_E2E_CONFORMANCE"

// deviation is a program that does not pass, and why: docs/conformance.md says the same in sentences.
type deviation struct {
	// fails are patterns of the assertions that fail, and of what the program says when it gives up. Another failure is one of the test.
	fails []string
	// racy says that the program passes sometimes.
	racy bool
}

// groupPath are the programs that want groups at a path of their own below the root of the hierarchies, which belongs to root.
const groupPath = `not delegated to this user|the parent is not there|cannot honour linux\.(resources|cgroupsPath)|cgrouptest|exit status 1`

// deviations lists the programs that an unprivileged user cannot pass, or that contradict the specification.
func deviations() map[string]deviation {
	list := map[string]deviation{
		"linux_devices":                  {fails: []string{`linux\.devices\[0\]: the host has no node`}},
		"linux_masked_paths":             {fails: []string{`^operation not permitted`}},
		"linux_readonly_paths":           {fails: []string{`^operation not permitted`}},
		"linux_mount_label":              {fails: []string{`linux\.mountLabel`}},
		"linux_process_apparmor_profile": {fails: []string{`process\.apparmorProfile`}},
		"linux_ns_itype":                 {fails: []string{`there must be a mount namespace`, `cannot run validation tests`}},
		"linux_ns_path":                  {fails: []string{`set mnt namespace by path`, `a mount namespace cannot be joined`}},
		"mounts":                         {fails: []string{`mounts\[\d+\] \(/mnt/etc-\w+\) found in order`}},
		"misc_props":                     {fails: []string{`unknown annotation key`, `exec /runtimetest: no such file`}},
		"process_capabilities_fail":      {fails: []string{`cannot be mapped to a relevant kernel interface MUST cause an error`}},
		"process_rlimits":                {fails: []string{`has expected soft RLIMIT_NOFILE`}},
		"poststart_fail":                 {fails: []string{`poststart hook fails, the runtime MUST log a warning`, `hook hooks\.poststart\[0\]`}},
		"prestart":                       {fails: []string{"Pre-start hooks MUST be called after the `start` operation is called"}},
		"hooks":                          {fails: []string{`Hooks MUST be called in the listed order`}},
		"start":                          {fails: []string{"`process` was not set", `timeout in waiting for the container status`}},
		"pidfile":                        {fails: []string{`create with '--pid-file' option works`, `it is stopped`}, racy: true},
		"killsig":                        {fails: []string{`MUST send the specified signal`, `it is running`}, racy: true},
		"poststart":                      {fails: []string{`post-start hooks MUST be called after the user-specified process is executed`}, racy: true},
		"delete_resources":               {fails: []string{groupPath}},
		"delete_only_create_resources":   {fails: []string{groupPath}},
	}
	for _, kind := range []string{"blkio", "cpus", "devices", "hugetlb", "memory", "network", "pids"} {
		for _, form := range []string{"", "relative_"} {
			list["linux_cgroups_"+form+kind] = deviation{fails: []string{groupPath, `get \w+ data`, `is set correctly|set correctly`}}
		}
	}
	return list
}

// TestConformance runs the runtime spec's own programs against skiff-oci, as root of an unprivileged user's user namespace.
func TestConformance(t *testing.T) {
	dir := os.Getenv(envConformance)
	if dir == "" {
		t.Skipf("%s is not set: run `make e2e`", envConformance)
	}
	skiff := filepath.Join(os.Getenv(envPair), "bin", "skiff")
	if os.Getenv(envPair) == "" {
		skiff = filepath.Join(os.Getenv(envWhole), "skiff")
	}
	work := t.TempDir()
	name := filepath.Join(work, "skiff-oci")
	for from, to := range map[string]string{
		skiff: name, filepath.Join(dir, "runtimetest"): filepath.Join(work, "runtimetest"),
		filepath.Join(dir, "rootfs-"+runtime.GOARCH+".tar.gz"): filepath.Join(work, "rootfs-"+runtime.GOARCH+".tar.gz"),
	} {
		link := os.Symlink
		if filepath.Base(from) == "runtimetest" { // they copy it as what it is
			link = copyProgram
		}
		if err := link(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{work, filepath.Dir(work)} { // other users of a user namespace walk through
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	listed := documented(t, filepath.Join(dir, "conformance.md"))
	known := deviations()
	for _, p := range programs(t, dir) {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			d, deviates := known[p]
			if listed[p] != deviates {
				t.Errorf("docs/conformance.md lists it as one that does not pass: %v; this test does: %v", listed[p], deviates)
			}
			failures := validate(t, filepath.Join(dir, p), work, skiff, name)
			for _, f := range failures {
				if !slices.ContainsFunc(d.fails, func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(f) }) {
					t.Error(f)
				}
			}
			if deviates && len(failures) == 0 && !d.racy {
				t.Error("it passes: take it out of the list, and out of docs/conformance.md")
			}
		})
	}
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// documented are the programs in the first column of the table of docs/conformance.md.
func documented(t *testing.T, name string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if column, ok := strings.CutPrefix(line, "| `"); ok {
			column, _, _ = strings.Cut("`"+column, "|")
			for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(column, -1) {
				listed[name[1]] = true
			}
		}
	}
	return listed
}

// programs lists the programs in a directory.
func programs(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), ".") && e.Name() != "runtimetest" {
			names = append(names, e.Name())
		}
	}
	if len(names) < 50 {
		t.Fatalf("only %d programs in %s", len(names), dir)
	}
	return names
}

// validate runs a program and returns the assertions that fail, and what it has said when it gave up. They write TAP (testanything.org); some make no assertion and report an error in the
// YAML block alone.
func validate(t *testing.T, program, work, skiff, name string) (failures []string) {
	t.Helper()
	tmp, err := os.MkdirTemp(work, "tmp") //nolint:usetesting // others walk through it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), skiff, "unshare", program)
	run, err := os.MkdirTemp("/tmp", "sk") //nolint:usetesting // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir, cmd.Env, cmd.WaitDelay = work, append(os.Environ(), "RUNTIME="+name, "TMPDIR="+tmp, "XDG_RUNTIME_DIR="+run), 10*time.Second
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	t.Cleanup(func() { endAll(t, name, run) })
	asserted := false
	for line := range strings.Lines(out.String()) {
		asserted = asserted || strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "not ok ")
		if strings.HasPrefix(line, "not ok ") && !strings.Contains(line, "# TODO") {
			failures = append(failures, strings.TrimSpace(line))
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		failures = append(failures, fmt.Sprintf("%s(exit status %d)", lastLine(said.String()), exit.ExitCode()))
	case err != nil:
		t.Fatal(err)
	case !asserted && strings.Contains(out.String(), `"error":`):
		failures = append(failures, out.String())
	}
	if len(failures) > 0 {
		t.Logf("%s%s", out.String(), said.String())
	}
	return failures
}

// lastLine is what a program says last, with the line before it: the last one is often an exit status.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-2):], " ")
}

// endAll deletes the containers that a program has left behind.
func endAll(t *testing.T, name, run string) {
	t.Helper()
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+run)
	list := exec.Command(name, "list", "-q")
	list.Env = env
	ids, err := list.Output()
	if err != nil {
		t.Error(err)
	}
	for id := range strings.FieldsSeq(string(ids)) {
		del := exec.Command(name, "delete", "--force", id)
		del.Env = env
		if out, err := del.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	_ = os.RemoveAll(run)
}
