//go:build !front

package commands

// This file is build's flags and what they become.

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/run/config"
)

// buildFlags are those of build, as docker build has them.
func buildFlags() []cli.Flag {
	return []cli.Flag{
		option{"add-host", "", "list", "Add a custom host-to-IP mapping (HOST:IP)", ""},
		option{"allow", "", "list", "Allow an entitlement: network.host, security.insecure, device[=NAME]", ""},
		option{"annotation", "", "list", "Add an annotation, [PLACE:]KEY=VALUE (manifest, index, manifest-descriptor, index-descriptor)", ""},
		option{"attest", "", "list", "Attestation parameters (type=provenance,mode=max)", ""},
		option{"build-arg", "", "list", "Set build-time variables", ""},
		option{"build-context", "", "list", "Additional build contexts, NAME=PATH|URL|docker-image://IMAGE|oci-layout://DIR[:TAG][@DIGEST]", ""},
		option{"builder", "", "string", "Accepted for compatibility: there is one builder", ""},
		option{"cache-from", "", "list", "External cache sources (NAME, type=registry,ref=NAME, type=local,src=DIR)", ""},
		option{"cache-to", "", "list", "Cache export destinations (type=registry,ref=NAME|local,dest=DIR|inline, mode=min|max)", ""},
		option{"call", "", "string", "What to do: build, check, outline, targets", "build"},
		option{"cgroup-parent", "", "string", "Control group that those of RUN are made in", ""},
		option{"check", "", "", "Shorthand for --call=check", ""},
		option{"compress", "", "", "Accepted for compatibility: the context is read where it is", ""},
		option{"cpu-period", "", "decimal", "Limit the CPU CFS period of RUN (microseconds)", ""},
		option{"cpu-quota", "", "decimal", "Limit the CPU CFS quota of RUN (microseconds)", ""},
		option{"cpu-shares", "c", "decimal", "CPU shares of RUN (relative weight)", ""},
		option{"cpuset-cpus", "", "string", "CPUs that RUN may use (0-3, 0,1)", ""},
		option{"cpuset-mems", "", "string", "Memory nodes that RUN may use (0-3, 0,1)", ""},
		option{"debug", "D", "", "Enable debug logging", ""},
		option{"debug-shell", "", "", "Shorthand for --on-error=shell", ""},
		option{"device", "", "list", "Device for each RUN (HOST[:CONTAINER][:rwm], or VENDOR/CLASS=NAME of CDI)", ""},
		option{"file", "f", "string", "Name of the Dockerfile (default PATH/Dockerfile, then PATH/Containerfile)", ""},
		option{"force-rm", "", "", "Accepted for compatibility: nothing is ever left", ""},
		option{"iidfile", "", "string", "Write the image ID to a file", ""},
		option{"isolation", "", "string", "Accepted for compatibility: default is the one there is", ""},
		option{"label", "", "list", "Set metadata for an image", ""},
		option{"load", "", "", "Accepted for compatibility: the image goes to the store", ""},
		option{"memory", "m", "bytes", "Memory limit of each RUN", ""},
		option{"memory-swap", "", "bytes", "Memory and swap together, -1 for unlimited swap", ""},
		option{"metadata-file", "", "string", "Write build result metadata to a file", ""},
		option{"network", "", "string", "Set the networking mode of RUN: default (the bridge), host, none, or a network", "default"},
		option{"no-cache", "", "", "Do not use cache when building the image", ""},
		option{"no-cache-filter", "", "list", "Do not cache specified stages", ""},
		option{"on-error", "", "string", "When a RUN fails: stop, or shell (on this terminal, where it failed)", "stop"},
		option{"output", "o", "list", "Output destination (type=local|tar|oci|docker|image|registry,dest=PATH)", ""},
		option{"platform", "", "list", "Set target platform for build", ""},
		option{"policy", "", "list", "Not supported", ""},
		option{"progress", "", "string", "Set type of progress output (auto, none, plain, quiet, rawjson, tty; $BUILDKIT_PROGRESS)", "auto"},
		option{"provenance", "", "string", "Shorthand for --attest=type=provenance", ""},
		option{"pull", "", "", "Always attempt to pull all referenced images", ""},
		option{"push", "", "", "Shorthand for --output=type=registry", ""},
		option{"quiet", "q", "", "Suppress the build output and print image ID on success", ""},
		option{"resource", "", "list", "Limits of each RUN: memory=SIZE, cpu-quota=N, cpuset-cpus=LIST, ...", ""},
		option{"rm", "", "", "Accepted for compatibility: nothing is ever left", "true"},
		option{"sbom", "", "string", "Only false: there is no scanner for a bill of materials", ""},
		option{"secret", "", "list", "Secret to expose to the build (id=NAME[,src=FILE|,env=NAME])", ""},
		option{"security-opt", "", "list", "Not supported", ""},
		option{"shm-size", "", "bytes", "Size of /dev/shm", ""},
		option{"squash", "", "", "Make one layer of all that is built", ""},
		option{"ssh", "", "list", "SSH agent socket to expose to the build (default|ID[=SOCKET])", ""},
		option{"tag", "t", "list", "Image name, NAME[:TAG]", ""},
		option{"target", "", "string", "Set the target build stage to build", ""},
		option{"ulimit", "", "ulimit", "Ulimit options (NAME=SOFT[:HARD])", ""},
	}
}

// buildRefused are the flags that do nothing here, with the reason.
func buildRefused() [][2]string {
	return [][2]string{
		{"policy", "build policies are not read in this version"},
		{"security-opt", "RUN always has the default seccomp profile; --allow security.insecure with RUN --security=insecure has none"},
	}
}

// platformsOf are the platforms to build for, each once, in any of the ways to write several.
func platformsOf(c *cli.Context) ([]string, error) {
	var list []string
	for _, word := range listOf(c, "platform") {
		for _, p := range strings.Split(word, ",") {
			if p = strings.TrimSpace(p); p == "local" {
				p = "linux/" + runtime.GOARCH
			}
			parsed, err := pull.ParsePlatform(p)
			if err == nil && parsed.Architecture == "" {
				err = fmt.Errorf("platform %q has no architecture; it is OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64", p)
			}
			if err == nil && parsed.OS != "linux" {
				err = fmt.Errorf("platform %q is not linux", p)
			}
			if err != nil {
				return nil, fmt.Errorf("cannot use --platform %s: %w", word, err)
			}
			if text := parsed.String(); !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list, nil
}

// checkBuildFlags refuses what cannot be done before anything is.
func checkBuildFlags(c *cli.Context) error {
	refuse := func(name, why string) error {
		return &usageError{text: fmt.Sprintf("cannot use --%s: %s", name, why), verb: "build", code: exitOurs}
	}
	for _, r := range buildRefused() {
		if c.IsSet(r[0]) {
			return refuse(r[0], r[1])
		}
	}
	if modes := []string{"auto", "none", "plain", "quiet", "rawjson", "tty"}; !slices.Contains(modes, progressOf(c)) {
		return refuse("progress", fmt.Sprintf("%q is none of %s", progressOf(c), strings.Join(modes, ", ")))
	}
	if v := c.String("isolation"); v != "" && v != "default" {
		return refuse("isolation", fmt.Sprintf("%s is for Windows", v))
	}
	if n := c.String("network"); strings.HasPrefix(n, "container:") {
		return refuse("network", "a build has a network of its own, or the host's")
	}
	return nil
}

// progressOf is how progress is shown; the variable is BuildKit's, which scripts set for every build they start.
func progressOf(c *cli.Context) string {
	if v := os.Getenv("BUILDKIT_PROGRESS"); v != "" && !c.IsSet("progress") {
		return v
	}
	return c.String("progress")
}

// buildOptions turns flags into a build.
func buildOptions(c *cli.Context) (o build.Options, err error) {
	o = build.Options{
		Frontend: map[string]string{}, Locals: map[string]string{}, Access: accessOf(c), Pull: c.Bool("pull"), Network: netns.Bridge,
		Progress: progressOf(c), Err: streamsOf(c).Err, Squash: c.Bool("squash"),
	}
	if c.Bool("quiet") || o.Progress == "none" {
		o.Progress = "quiet"
	}
	for _, a := range listOf(c, "build-arg") {
		name, value, given := strings.Cut(a, "=")
		if name == "" {
			return o, fmt.Errorf("cannot use --build-arg %s: it has no name", a)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				continue
			}
		}
		o.Frontend["build-arg:"+name] = value
	}
	if v, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok && o.Frontend["build-arg:SOURCE_DATE_EPOCH"] == "" && v != "" {
		o.Frontend["build-arg:SOURCE_DATE_EPOCH"] = v
	}
	for _, l := range listOf(c, "label") {
		name, value, _ := strings.Cut(l, "=")
		if name == "" {
			return o, fmt.Errorf("cannot use --label %s: it has no name", l)
		}
		o.Frontend["label:"+name] = value
	}
	if v := c.String("target"); v != "" {
		o.Frontend["target"] = v
	}
	list, err := platformsOf(c)
	if err != nil {
		return o, err
	}
	o.Frontend["platform"] = strings.Join(list, ",")
	if c.Bool("no-cache") {
		o.Frontend["no-cache"] = ""
	} else if list := listOf(c, "no-cache-filter"); len(list) > 0 {
		o.Frontend["no-cache"] = strings.Join(list, ",")
	}
	if err := sandboxOptions(c, &o); err != nil {
		return o, err
	}
	if err := cacheOptions(c, &o); err != nil {
		return o, err
	}
	if o.Provenance, err = attestations(c); err != nil {
		return o, err
	}
	if o.Secrets, err = buildSecrets(listOf(c, "secret")); err != nil {
		return o, err
	}
	o.SSH, err = buildAgents(listOf(c, "ssh"))
	return o, err
}

// sandboxOptions are those of RUN.
func sandboxOptions(c *cli.Context, o *build.Options) error {
	switch n := c.String("network"); n {
	case "", "default":
	case "host", "none":
		o.Frontend["force-network-mode"], o.Network, o.HostNetwork = n, n, n == "host"
	default:
		if !(&config.Config{Network: n}).Bridged() {
			return fmt.Errorf("cannot use --network %s: RUN is on a bridge network, on the host's network (host) or on none", n)
		}
		o.Network = n
	}
	var hosts []string
	for _, h := range listOf(c, "add-host") {
		name, ip, ok := strings.Cut(h, "=")
		if !ok {
			if name, ip, ok = strings.Cut(h, ":"); !ok {
				return fmt.Errorf("cannot use --add-host %s: it is not HOST:IP", h)
			}
		}
		if ip == "host-gateway" {
			ip = netns.HostGateway
		}
		hosts = append(hosts, name+"="+strings.Trim(ip, "[]"))
	}
	if len(hosts) > 0 {
		o.Frontend["add-hosts"] = strings.Join(hosts, ",")
	}
	if v := c.String("shm-size"); v != "" {
		n, err := config.ParseSize(v)
		if err != nil {
			return fmt.Errorf("cannot use --shm-size %s: %w", v, err)
		}
		o.Frontend["shm-size"] = strconv.FormatInt(n, 10)
	}
	if list := listOf(c, "ulimit"); len(list) > 0 {
		for _, u := range list {
			if _, err := config.ParseUlimit(u); err != nil {
				return fmt.Errorf("cannot use --ulimit %s: %w", u, err)
			}
		}
		o.Frontend["ulimit"] = strings.Join(list, ",")
	}
	o.CgroupParent = c.String("cgroup-parent")
	var err error
	if o.Limits, err = buildLimits(c); err != nil {
		return err
	}
	for _, a := range listOf(c, "allow") {
		switch a {
		case "network.host":
			o.HostNetwork = true
		case "security.insecure":
			o.Insecure = true
		case "device":
			o.AllowDevices = append(o.AllowDevices, "*")
		default:
			name, ok := strings.CutPrefix(a, "device=")
			if !ok || name == "" {
				return fmt.Errorf("cannot use --allow %s: it is network.host, security.insecure, device or device=NAME", a)
			}
			o.AllowDevices = append(o.AllowDevices, name)
		}
	}
	for _, text := range listOf(c, "device") {
		if config.IsCDI(text) {
			o.CDI = append(o.CDI, text)
			continue
		}
		d, err := config.ParseDevice(text)
		if err != nil {
			return fmt.Errorf("cannot use --device %s: %w", text, err)
		}
		o.Devices = append(o.Devices, d)
	}
	return nil
}
