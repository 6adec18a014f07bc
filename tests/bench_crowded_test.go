package tests

// This file measures many containers at once beside podman's, for `make bench`.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestBenchCrowded measures a hundred containers, 32 at a time, interleaved like TestBench: the time until the last one has ended.
func TestBenchCrowded(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("SKIFF_BENCH"))
	if err != nil {
		t.Skip("SKIFF_BENCH is not set: run `make bench`")
	}
	b := newSmallBench(t)
	hundred := func(command string) []string {
		return []string{"sh", "-c", `test "$(seq 100 | xargs -P 32 -I{} ` + command + ` echo n{} | sort -u | wc -l)" = 100`}
	}
	list := []*contestant{
		{name: "skiff, no network", argv: hundred(b.bin + " run --rm --network none busybox")},
		{name: "skiff, its default network", argv: hundred(b.bin + " run --rm busybox")},
		{name: "podman, no network", argv: hundred("podman run --rm --network none localhost/busybox")},
		{name: "podman, its default network", argv: hundred("podman run --rm localhost/busybox")},
	}
	if err := b.podman(filepath.Join(b.dir, "bundle", "rootfs")); err != nil {
		t.Logf("left out podman: %v", err)
		list = slices.DeleteFunc(list, func(c *contestant) bool { return strings.HasPrefix(c.name, "podman") })
	}
	list = b.present(list)
	for range max(3, rounds/10) {
		for _, c := range list {
			c.run(t)
		}
	}
	fmt.Printf("\n%-32s %9s %9s %9s\n", "100 containers, 32 at a time", "median ms", "min", "max")
	median := map[string]float64{}
	for _, c := range list {
		if c.failed != "" {
			fmt.Printf("%-32s failed: %s\n", c.name, c.failed)
			continue
		}
		median[c.name] = c.median()
		fmt.Printf("%-32s %9.0f %9d %9d\n", c.name, c.median(), c.took[0].Milliseconds(), c.took[len(c.took)-1].Milliseconds())
	}
	for _, network := range []string{"no network", "its default network"} {
		if ours := median["skiff, "+network]; ours > 0 && median["podman, "+network] > 0 {
			fmt.Printf("%-44s %8.1f   (at least 8)\n", "podman : skiff, "+network, median["podman, "+network]/ours)
		}
	}
}
