package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBench measures whole commands, interleaved so that the machine's moods hit all alike, and prints medians and ratios. It judges
// nothing: figures are for people.
func TestBench(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SKIFF_BENCH"))
	if err != nil {
		t.Skip("SKIFF_BENCH is not set: run `make bench`")
	}
	b := newBench(t)
	cold := b.contestants()
	warm := b.warmContestants()
	for i := range rounds {
		for _, c := range cold {
			if i%c.every() == 0 {
				c.run(t)
			}
		}
		b.skiff("run", "-d", "--name", "alive", "--network", "none", "busybox", "sleep", "1000")
		pid := b.skiff("inspect", "-f", "{{.State.Pid}}", "alive")
		for _, c := range warm {
			c.pid = pid
			c.run(t)
		}
		b.skiff("rm", "-f", "alive")
	}
	b.report(append(cold, warm...))
	b.memory()
}

// contestant is one command and the times it took.
type contestant struct {
	name   string
	argv   []string
	env    []string
	rarely bool          // slow ones run in every fourth round
	primed bool          // run once before, which is not measured
	rest   time.Duration // how long what it leaves takes to go
	pid    string        // replaces PID in argv
	took   []time.Duration
	failed string
}

func (c *contestant) every() int {
	if c.rarely {
		return 4
	}
	return 1
}

// run measures one run; a command that fails once is left out and said to have failed.
func (c *contestant) run(t *testing.T) {
	t.Helper()
	if c.failed != "" {
		return
	}
	argv := slices.Clone(c.argv)
	for i, a := range argv {
		argv[i] = strings.ReplaceAll(a, "PID", c.pid)
	}
	defer time.Sleep(c.rest)
	if c.primed {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = c.env
		_ = cmd.Run() // the one that is measured says what is wrong
	}
	var stderr strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stderr = c.env, &stderr
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if err != nil {
		c.failed = strings.TrimSpace(err.Error() + ": " + stderr.String())
		return
	}
	c.took = append(c.took, took)
}

func (c *contestant) median() float64 {
	if len(c.took) == 0 {
		return 0
	}
	slices.Sort(c.took)
	return float64(c.took[len(c.took)/2].Microseconds()) / 1000
}

// bench is a user with two stores: a small one with busybox and an image of 20 layers, and one with 1000 containers and 100 images.
type bench struct {
	t           *testing.T
	dir, bin    string
	env, bigEnv []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := newSmallBench(t)
	b.crowd()
	return b
}

// newSmallBench has only the small store.
func newSmallBench(t *testing.T) *bench {
	t.Helper()
	pair := os.Getenv(envPair)
	b := &bench{t: t, dir: t.TempDir(), bin: filepath.Join(pair, "bin", "skiff")}
	if pair == "" {
		t.Fatalf("%s is not set: run `make bench`", envPair)
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("/tmp", "sk") //nolint:usetesting // sockets lie in it: the path must be short
	if err != nil {
		t.Fatal(err)
	}
	base := []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + b.dir, "XDG_RUNTIME_DIR=" + run, "LANG=C.UTF-8"}
	b.env = append(slices.Clone(base), "XDG_DATA_HOME="+filepath.Join(b.dir, "small"))
	b.bigEnv = append(slices.Clone(base), "XDG_DATA_HOME="+filepath.Join(b.dir, "big"))
	t.Cleanup(func() {
		for _, data := range []string{"small", "big"} {
			cmd := exec.Command("sh", "-c", `ids=$(`+b.bin+` ps -q); test -z "$ids" || `+b.bin+` rm -f $ids; `+b.bin+` unshare rm -rf `+filepath.Join(b.dir, data))
			cmd.Env = append(slices.Clone(base), "XDG_DATA_HOME="+filepath.Join(b.dir, data))
			_ = cmd.Run()
		}
		_ = os.RemoveAll(run)
	})
	b.images()
	return b
}

// crowd fills the large store.
func (b *bench) crowd() {
	b.t.Helper()
	archive := filepath.Join(b.dir, "busybox.tar")
	b.must(writeBusybox(archive))
	b.in(b.bigEnv, "load", "-q", "-i", archive)
	for i := range 99 {
		small, err := dockerArchive(fmt.Sprintf("image%d:latest", i), map[string]any{"Cmd": []string{strconv.Itoa(i)}}, tree{files: map[string]string{"f": "x"}}.tar())
		b.must(err)
		b.must(os.WriteFile(archive, small, 0o600))
		b.in(b.bigEnv, "load", "-q", "-i", archive)
	}
	b.t.Log("making 1000 containers and 100 images")
	many := exec.Command("sh", "-c", `i=0; while [ $i -lt 1000 ]; do `+b.bin+` create busybox true >/dev/null || exit 1; i=$((i+1)); done`)
	many.Env = b.bigEnv
	if out, err := many.CombinedOutput(); err != nil {
		b.t.Fatalf("cannot make 1000 containers: %v\n%s", err, out)
	}
}

// images loads the images of the small store.
func (b *bench) images() {
	b.t.Helper()
	archive := filepath.Join(b.dir, "busybox.tar")
	b.must(writeBusybox(archive))
	b.skiff("load", "-q", "-i", archive)
	full, err := busyboxTree()
	b.must(err)
	layers := [][]byte{full.tar()}
	for i := range 19 {
		layers = append(layers, tree{files: map[string]string{fmt.Sprintf("data%d", i): "x"}}.tar())
	}
	deep, err := dockerArchive("deep:latest", map[string]any{"Cmd": []string{"sh"}}, layers...)
	b.must(err)
	b.must(os.WriteFile(archive, deep, 0o600))
	b.skiff("load", "-q", "-i", archive)
	rootfs := filepath.Join(b.dir, "bundle", "rootfs")
	b.must(os.MkdirAll(rootfs, 0o755))
	untar := exec.Command("tar", "-C", rootfs, "-xf", "-")
	untar.Stdin = strings.NewReader(string(full.tar()))
	b.must(untar.Run())
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// skiff runs the program on the small store and returns what it prints.
func (b *bench) skiff(args ...string) string {
	b.t.Helper()
	return b.in(b.env, args...)
}

func (b *bench) in(env []string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(b.bin, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("skiff %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// contestants are the commands measured while no container is alive.
func (b *bench) contestants() []*contestant {
	b.t.Helper()
	rootfs := filepath.Join(b.dir, "bundle", "rootfs")
	onBridge := []string{b.bin, "run", "--rm", "--network", "bridge", "busybox", "true"}
	list := []*contestant{
		{name: "bwrap --unshare-all", argv: []string{"bwrap", "--unshare-all", "--bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "true"}},
		{name: "skiff run, cold", argv: []string{b.bin, "run", "--rm", "--network", "none", "busybox", "true"}},
		{name: "skiff run, 20 layers", argv: []string{b.bin, "run", "--rm", "--network", "none", "deep", "true"}},
		{name: "skiff run, 1000 containers", argv: []string{b.bin, "run", "--rm", "--network", "none", "busybox", "true"}, env: b.bigEnv},
		{name: "skiff ps -a, 1000 containers", argv: []string{b.bin, "ps", "-a"}, env: b.bigEnv},
		{name: "skiff run on a bridge, cold", argv: onBridge, env: append(slices.Clone(b.env), "SKIFF_SWITCH_GRACE=0s"), rest: 500 * time.Millisecond},
		{name: "crun run, bundle", argv: []string{"crun", "--root", filepath.Join(b.dir, "crun"), "run", "-b", filepath.Join(b.dir, "bundle"), "c1"}},
		{name: "runc run, bundle", argv: []string{"runc", "--root", filepath.Join(b.dir, "runc"), "run", "-b", filepath.Join(b.dir, "bundle"), "r1"}},
		{name: "podman run", argv: []string{"podman", "run", "--rm", "--network", "none", "localhost/busybox", "true"}, rarely: true},
	}
	if err := b.bundle(); err != nil {
		b.t.Logf("left out crun and runc: %v", err)
		list = slices.DeleteFunc(list, func(c *contestant) bool { return strings.Contains(c.name, "bundle") })
	}
	if err := b.podman(rootfs); err != nil {
		b.t.Logf("left out podman: %v", err)
		list = slices.DeleteFunc(list, func(c *contestant) bool { return c.argv[0] == "podman" })
	}
	return b.present(list)
}

// warmContestants are measured while another container, PID, is alive.
func (b *bench) warmContestants() []*contestant {
	return b.present([]*contestant{
		{name: "skiff run, warm", argv: []string{b.bin, "run", "--rm", "--network", "none", "busybox", "true"}},
		{name: "nsenter", argv: []string{"nsenter", "-t", "PID", "-U", "-m", "-p", "-u", "-i", "-n", "--preserve-credentials", "/bin/true"}},
		{name: "skiff exec", argv: []string{b.bin, "exec", "alive", "true"}},
		{
			name: "skiff run on a bridge, warm", argv: []string{b.bin, "run", "--rm", "--network", "bridge", "busybox", "true"},
			env: append(slices.Clone(b.env), "SKIFF_SWITCH_GRACE=1s"), primed: true, rest: 1500 * time.Millisecond,
		},
	})
}

// present keeps those whose program is on this machine.
func (b *bench) present(list []*contestant) []*contestant {
	return slices.DeleteFunc(list, func(c *contestant) bool {
		if c.env == nil {
			c.env = b.env
		}
		path, err := exec.LookPath(c.argv[0])
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + c.argv[0])
		}
		if err != nil {
			b.t.Logf("left out %s: it is not installed", c.name)
			return true
		}
		c.argv[0] = path
		return false
	})
}

// bundle writes an OCI bundle that runs true, without a terminal.
func (b *bench) bundle() error {
	runc, err := exec.LookPath("runc")
	if err != nil {
		runc = "/usr/sbin/runc"
	}
	dir := filepath.Join(b.dir, "bundle")
	cmd := exec.Command(runc, "spec", "--rootless")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc spec: %w %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return err
	}
	var spec map[string]any
	if err = json.Unmarshal(text, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"true"}
	linux := spec["linux"].(map[string]any)
	linux["namespaces"] = append(linux["namespaces"].([]any), map[string]any{"type": "network"})
	text, err = json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600)
}

// podman configures it for a bare machine and gives it the image.
func (b *bench) podman(rootfs string) error {
	if _, err := exec.LookPath("podman"); err != nil {
		return fmt.Errorf("it is not installed")
	}
	dir := filepath.Join(b.dir, ".config", "containers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"storage.conf":    "[storage]\ndriver = \"overlay\"\n",
		"containers.conf": "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
		"policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, script := range []string{"tar -C " + rootfs + " -c . | podman import - localhost/busybox", "podman run --rm --network none localhost/busybox true"} {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = b.env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", script, err, out)
		}
	}
	b.t.Cleanup(func() {
		cmd := exec.Command("podman", "system", "reset", "-f")
		cmd.Env = b.env
		_ = cmd.Run()
	})
	return nil
}

// report prints the table.
func (b *bench) report(all []*contestant) {
	median := map[string]float64{}
	fmt.Printf("\n%-32s %9s %9s %9s\n", "", "median ms", "min", "max")
	for _, c := range all {
		if c.failed != "" {
			fmt.Printf("%-32s failed: %s\n", c.name, c.failed)
			continue
		}
		if len(c.took) == 0 {
			continue
		}
		median[c.name] = c.median()
		fmt.Printf("%-32s %9.1f %9.1f %9.1f\n", c.name, c.median(), float64(c.took[0].Microseconds())/1000, float64(c.took[len(c.took)-1].Microseconds())/1000)
	}
	fmt.Println()
	ratio := func(what, a, b, goal string) {
		if median[a] > 0 && median[b] > 0 {
			fmt.Printf("%-44s %8.2f   (%s)\n", what, median[a]/median[b], goal)
		}
	}
	ratio("run, cold : bwrap", "skiff run, cold", "bwrap --unshare-all", "at most 2.5, goal 1.5")
	ratio("run, warm : bwrap", "skiff run, warm", "bwrap --unshare-all", "at most 2.5, goal 1.5")
	ratio("run, cold : podman", "skiff run, cold", "podman run", "at most 0.10")
	ratio("20 layers : cold", "skiff run, 20 layers", "skiff run, cold", "at most 1.2")
	ratio("1000 containers and 100 images : cold", "skiff run, 1000 containers", "skiff run, cold", "at most 1.3")
	ratio("run on a bridge : without network, cold", "skiff run on a bridge, cold", "skiff run, cold", "at most 2.5")
	ratio("run on a bridge : without network, warm", "skiff run on a bridge, warm", "skiff run, warm", "at most 1.5")
	if median["skiff exec"] > 0 && median["nsenter"] > 0 {
		fmt.Printf("%-44s %8.1f   (at most 6)\n", "exec minus nsenter, ms", median["skiff exec"]-median["nsenter"])
	}
	if median["skiff ps -a, 1000 containers"] > 0 {
		fmt.Printf("%-44s %8.1f   (at most 50)\n", "ps -a of 1000 containers, ms", median["skiff ps -a, 1000 containers"])
	}
}

// memory prints what ten detached containers cost in skiff's own processes.
func (b *bench) memory() {
	b.t.Helper()
	payload := map[string]bool{}
	for i := range 10 {
		name := fmt.Sprintf("mem%d", i)
		b.skiff("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000")
		payload[b.skiff("inspect", "-f", "{{.State.Pid}}", name)] = true
	}
	time.Sleep(2 * time.Second)
	// A process in a user namespace is best asked from inside.
	out := b.skiff("unshare", "sh", "-c", `for p in /proc/[0-9]*; do
		case $(tr '\0' ' ' <$p/cmdline 2>/dev/null) in skiff-*|fuse-overlayfs*)
			echo ${p#/proc/} $(awk '/^Pss:/{print $2}' $p/smaps_rollup);; esac; done`)
	total, processes := 0, 0
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) != 2 || payload[fields[0]] {
			continue
		}
		kb, err := strconv.Atoi(fields[1])
		b.must(err)
		total, processes = total+kb, processes+1
	}
	fmt.Printf("%-44s %8.2f   (at most 5; %d processes for 10 containers)\n", "PSS of a detached container, MB", float64(total)/1024/10, processes)
	for i := range 10 {
		b.skiff("rm", "-f", fmt.Sprintf("mem%d", i))
	}
}
