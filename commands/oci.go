package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run/bundle"
)

// OCIName is the program's name when it is called as an OCI runtime; `skiff oci` is the same.
const OCIName = "skiff-oci"

// ociVerb is one operation of the OCI runtime command line (opencontainers/runtime-tools, docs/command-line-interface.md, and the flags that runc added).
type ociVerb struct {
	name, args, usage string
	flags             []cli.Flag
	least, most       int // operands
	stops             bool
	do                func(*ociCall) error
}

// ociCall is one call of the command line.
type ociCall struct {
	Streams
	global, flags map[string][]string
	words         []string
}

// flag is the last value of a flag, "" without one; has whether a flag without value is there.
func (c *ociCall) flag(name string) string {
	if v := c.flags[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func (c *ociCall) has(name string) bool { return c.flag(name) == "true" }

// root is the directory of the containers.
func (c *ociCall) root() (string, error) {
	if v := c.global["root"]; len(v) > 0 {
		return filepath.Abs(v[len(v)-1])
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, OCIName), nil
	}
	return "", errors.New("cannot choose a directory for containers: XDG_RUNTIME_DIR is not set; name one with --root")
}

// ociGlobals are the flags before the operation.
func ociGlobals() []cli.Flag {
	return []cli.Flag{
		option{"cgroup-manager", "", "string", "cgroupfs, or disabled for containers without control groups of their own", "cgroupfs"},
		option{"debug", "", "", "Accepted for compatibility", ""},
		option{"log", "", "string", "Append errors to this file too", ""},
		option{"log-format", "", "string", "Format of the log: text or json", "text"},
		option{"root", "", "string", "Directory of the containers' state (default $XDG_RUNTIME_DIR/" + OCIName + ")", ""},
		option{"rootless", "", "string", "true, false or auto: accepted for compatibility, it is always rootless", "auto"},
		option{"systemd-cgroup", "", "", "Make control groups through systemd", ""},
		option{"version", "v", "", "Print version information and quit", ""},
	}
}

// OCIMain runs one command line of the OCI runtime and returns the exit code; args begin behind the program's name.
func OCIMain(args []string, s Streams) int {
	c := &ociCall{Streams: s}
	code, err := c.run(args)
	if err == nil {
		return code
	}
	fmt.Fprintf(s.Err, "%s: %s\n", OCIName, message(err))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(s.Err, "hint: %s\n", hint)
	}
	if logErr := c.log("error", err.Error()); logErr != nil {
		fmt.Fprintf(s.Err, "%s: %s\n", OCIName, logErr)
	}
	return max(code, 1)
}

// OCIStage is the life inside a container's user namespace.
func OCIStage(args []string) int { return bundle.Main(args) }

func (c *ociCall) run(args []string) (int, error) {
	words, operands, err := normalise(args, ociGlobals(), false)
	c.global = valuesOf(words)
	switch {
	case errors.Is(err, errHelp) || err == nil && len(operands) == 0 && c.global["version"] == nil:
		return 0, ociHelp(c.Out)
	case err != nil:
		return 1, err
	case c.global["version"] != nil:
		_, err = fmt.Fprintf(c.Out, "%s version %s\nspec: %s\n", OCIName, Version, specs.Version)
		return 0, err
	}
	if err := c.checkGlobals(); err != nil {
		return 1, err
	}
	for _, v := range ociVerbs() {
		if v.name != operands[0] {
			continue
		}
		words, c.words, err = normalise(operands[1:], v.flags, !v.stops)
		c.flags = valuesOf(words)
		switch {
		case errors.Is(err, errHelp):
			return 0, v.help(c.Out)
		case err != nil:
			return 1, fmt.Errorf("%s: %w", v.name, err)
		case len(c.words) < v.least || v.most >= 0 && len(c.words) > v.most:
			return 1, fmt.Errorf("%s: wrong number of arguments; usage: %s", v.name, v.line())
		}
		var code exitCode
		if err = v.do(c); errors.As(err, &code) {
			return int(code), nil
		}
		if err == nil {
			return 0, nil
		}
		return codeOf("", err), err
	}
	return 1, fmt.Errorf("unknown operation %q", operands[0])
}

// checkGlobals refuses values that mean nothing here.
func (c *ociCall) checkGlobals() error {
	for _, f := range []struct {
		name   string
		values []string
		why    string
	}{
		{"cgroup-manager", []string{"cgroupfs", "disabled"}, "it is cgroupfs or disabled"},
		{"log-format", []string{"text", "json"}, "it is text or json"},
		{"rootless", []string{"true", "false", "auto"}, "it is true, false or auto"},
		{"systemd-cgroup", []string{"false"}, "control groups are made in the file system, not by systemd (--cgroup-manager=cgroupfs of engines)"},
	} {
		if v := c.global[f.name]; v != nil && !slices.Contains(f.values, v[len(v)-1]) {
			return fmt.Errorf("invalid argument %q for --%s: %s", v[len(v)-1], f.name, f.why)
		}
	}
	return nil
}

// valuesOf sorts the words --name=value that normalise has made.
func valuesOf(words []string) map[string][]string {
	m := map[string][]string{}
	for _, w := range words {
		name, value, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		m[name] = append(m[name], value)
	}
	return m
}

// warn says what an operation went on without: in the log when there is one, since standard error is the container's.
func (c *ociCall) warn(warnings []string) {
	for _, w := range warnings {
		if c.global["log"] == nil {
			fmt.Fprintf(c.Err, "%s: %s\n", OCIName, w)
		} else if err := c.log("warning", w); err != nil {
			fmt.Fprintf(c.Err, "%s: %s\n", OCIName, err)
		}
	}
}

// log appends a line to the log that the caller reads.
func (c *ociCall) log(level, text string) error {
	name := c.global["log"]
	if name == nil {
		return nil
	}
	f, openErr := os.OpenFile(name[len(name)-1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if openErr != nil {
		return fmt.Errorf("cannot write the log: %w", openErr)
	}
	now := time.Now().Format(time.RFC3339)
	if format := c.global["log-format"]; format != nil && format[len(format)-1] == "json" {
		openErr = json.NewEncoder(f).Encode(map[string]string{"level": level, "msg": text, "time": now})
	} else {
		_, openErr = fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, text)
	}
	return errors.Join(openErr, f.Close())
}

func (v ociVerb) line() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s [OPTIONS] %s", OCIName, v.name, v.args))
}

func (v ociVerb) help(w io.Writer) error {
	_, err := fmt.Fprintf(w, "Usage:  %s\n\n%s\n\nOptions:\n%s", v.line(), v.usage, ociFlagHelp(v.flags))
	return err
}

func ociHelp(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:  %s [OPTIONS] OPERATION\n\nRun OCI bundles: the command line that container engines call runtimes with.\n\nOperations:\n", OCIName)
	for _, v := range ociVerbs() {
		fmt.Fprintf(&b, "  %-10s %s\n", v.name, v.usage)
	}
	fmt.Fprintf(&b, "\nOptions:\n%s", ociFlagHelp(ociGlobals()))
	_, err := io.WriteString(w, b.String())
	return err
}

func ociFlagHelp(flags []cli.Flag) string {
	var b strings.Builder
	for _, f := range flags {
		o, ours := f.(option)
		if !ours {
			continue
		}
		short := "    "
		if o.short != "" {
			short = "-" + o.short + ", "
		}
		fmt.Fprintf(&b, "  %s--%-24s %s\n", short, strings.TrimSpace(o.name+" "+o.kind), o.usage)
	}
	return b.String()
}
