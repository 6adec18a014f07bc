package commands

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
)

// refusal is a flag that cannot be honoured, and why.
type refusal struct{ name, why string }

func refusals() []refusal {
	const devices = "an unprivileged user cannot have the kernel apply it"
	return []refusal{
		{"cpu-rt-period", devices},
		{"cpu-rt-runtime", devices},
		{"device-cgroup-rule", devices},
		{"gpus", "GPUs are not part of this version; a device can be given with --device"},
		{"kernel-memory", "the kernel has no such limit any more"},
		{"link-local-ip", "link-local addresses are given by the kernel"},
		{"storage-opt", "writable layers have no options"},
		{"use-api-socket", "skiff has no daemon whose socket could be given"},
	}
}

// refuse finds flags that cannot be honoured, by themselves or with the value given.
func refuse(c *cli.Context) error {
	for _, f := range refusals() {
		if c.IsSet(f.name) {
			return fmt.Errorf("cannot use --%s: %s", f.name, f.why)
		}
	}
	if d := c.String("volume-driver"); d != "" && d != "local" {
		return fmt.Errorf("cannot use --volume-driver %s: there is only the local driver", d)
	}
	if u := c.String("userns"); u != "" && u != "host" {
		return fmt.Errorf("cannot use --userns %s: every container is in your own user namespace (host)", u)
	}
	if n := c.String("memory-swappiness"); n != "" {
		if v, err := strconv.Atoi(n); err != nil || v < -1 || v > 100 {
			return fmt.Errorf("invalid argument %q for --memory-swappiness: it is 0 to 100", n)
		}
	}
	return nil
}
