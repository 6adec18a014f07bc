package tests

// This file measures builds beside podman's and buildah's, for `make bench`.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// buildBench is one kind of build: its context is made once, prepare runs before each build and is not measured.
type buildBench struct {
	name    string
	flags   string // of all builders
	jobs    bool   // the peers build stages at once only when told to
	files   map[string]string
	script  string // makes more of the context
	prepare string // in the context
	rounds  int    // at most; 0 is as many as are asked for
	goal    float64
}

func buildBenches() []buildBench {
	var ten strings.Builder
	ten.WriteString("FROM localhost/busybox\n")
	for i := range 10 {
		fmt.Fprintf(&ten, "RUN echo %d >/%d\n", i, i)
	}
	five := "FROM localhost/busybox AS a\nRUN sleep 5; echo a >/a\nFROM localhost/busybox AS b\nRUN sleep 5; echo b >/b\nFROM localhost/busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
	return []buildBench{
		{name: "10 RUN", flags: "--no-cache", files: map[string]string{"Dockerfile": ten.String()}, goal: 3},
		{name: "all cached", files: map[string]string{"Dockerfile": ten.String()}, goal: 3},
		{
			name: "20000 files, one changed", files: map[string]string{"Dockerfile": "FROM localhost/busybox\nCOPY . /src\nRUN echo done >/done\n"},
			script:  `for d in $(seq 100); do mkdir d$d; for f in $(seq 200); do echo "$d $f" >d$d/f$f; done; done`,
			prepare: `date +%N >d50/f100`, goal: 3,
		},
		{name: "two stages of 5 s", flags: "--no-cache", jobs: true, files: map[string]string{"Dockerfile": five}, rounds: 2},
	}
}

// TestBenchBuild measures builds, interleaved like TestBench.
func TestBenchBuild(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SKIFF_BENCH"))
	if err != nil {
		t.Skip("SKIFF_BENCH is not set: run `make bench`")
	}
	rounds = max(3, rounds/5)
	b := newBuildBench(t)
	builders := []string{b.bin + " build"}
	if err := b.podman(filepath.Join(b.dir, "bundle", "rootfs")); err != nil {
		fmt.Printf("podman and buildah are left out: %v\n", err)
	} else {
		builders = append(builders, "podman build", "buildah build --layers")
	}
	fmt.Printf("\n%-44s %9s %9s %9s\n", "", "median ms", "min", "max")
	for n, one := range buildBenches() {
		dir := filepath.Join(b.dir, fmt.Sprintf("context%d", n))
		b.must(os.Mkdir(dir, 0o755))
		for name, text := range one.files {
			b.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		b.shell(dir, one.script)
		list := b.builds(builders, one, dir)
		for _, c := range list {
			b.shell(dir, strings.Join(c.argv, " ")) // the first one is not measured
		}
		times := rounds
		if one.rounds > 0 {
			times = one.rounds
		}
		for range times {
			for _, c := range list {
				b.shell(dir, one.prepare)
				c.run(t)
			}
		}
		reportBuilds(list, one.goal)
	}
}

func newBuildBench(t *testing.T) *bench {
	t.Helper()
	pair := os.Getenv(envPair)
	if pair == "" {
		t.Fatalf("%s is not set: run `make bench`", envPair)
	}
	b := &bench{t: t, dir: t.TempDir(), bin: filepath.Join(pair, "bin", "skiff")}
	b.must(os.Chmod(b.dir, 0o755))
	run, err := os.MkdirTemp("/tmp", "sk") //nolint:usetesting // sockets lie in it: the path must be short
	b.must(err)
	b.env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + b.dir, "XDG_RUNTIME_DIR=" + run, "LANG=C.UTF-8", "XDG_DATA_HOME=" + filepath.Join(b.dir, "data")}
	t.Cleanup(func() {
		cmd := exec.Command(b.bin, "unshare", "rm", "-rf", filepath.Join(b.dir, "data"))
		cmd.Env = b.env
		_ = cmd.Run()
		_ = os.RemoveAll(run)
	})
	full, err := busyboxTree()
	b.must(err)
	rootfs := filepath.Join(b.dir, "bundle", "rootfs")
	b.must(os.MkdirAll(rootfs, 0o755))
	untar := exec.Command("tar", "-C", rootfs, "-xf", "-")
	untar.Stdin = strings.NewReader(string(full.tar()))
	b.must(untar.Run())
	b.shell(b.dir, "tar -C "+rootfs+" -c . | "+b.bin+" import - localhost/busybox")
	return b
}

// shell runs a script that has to work.
func (b *bench) shell(dir, script string) {
	b.t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env, cmd.Dir = b.env, dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// builds are the same build by each builder. None has a network: what the peers need for one is not everywhere.
func (b *bench) builds(builders []string, one buildBench, dir string) []*contestant {
	var list []*contestant
	for _, builder := range builders {
		words := strings.Fields(builder)
		argv := append(slices.Clone(words), "-q", "--network=none", "-t", "localhost/built")
		argv = append(argv, strings.Fields(one.flags)...)
		if one.jobs && words[0] != b.bin {
			argv = append(argv, "--jobs=2")
		}
		list = append(list, &contestant{name: one.name + ", " + filepath.Base(words[0]), argv: append(argv, dir), env: b.env})
	}
	return list
}

// reportBuilds prints the first builder beside the others.
func reportBuilds(list []*contestant, goal float64) {
	for i, c := range list {
		if c.failed != "" || len(c.took) == 0 {
			fmt.Printf("%-44s failed: %s\n", c.name, c.failed)
			continue
		}
		fmt.Printf("%-44s %9.1f %9.1f %9.1f", c.name, c.median(), float64(c.took[0].Microseconds())/1000, float64(c.took[len(c.took)-1].Microseconds())/1000)
		if i > 0 && len(list[0].took) > 0 {
			fmt.Printf("  %5.1f times skiff's", c.median()/list[0].median())
			if goal > 0 {
				fmt.Printf(" (at least %.0f)", goal)
			}
		}
		fmt.Println()
	}
}
