// Package commands turns words into structs and results into words: it is the command line. One file per verb: flags, a
// struct, one call into package run or storage, and the printing. No verb touches a namespace or a container library itself.
//
// Its code runs in the front, the process that a user starts; for a few verbs in a second process inside the
// user's user namespace (see trampoline.go). Errors become text and exit codes in exit.go alone.
package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/record"
)

// Life is which of its lives the program leads while it reads a command line.
type Life int

// The lives of a command line.
const (
	Front  Life = iota // as the user started it
	Inside             // again, inside the user's user namespace, for a light verb that needs to be there
	Engine             // inside, with the heavy libraries
)

// Streams are the three standard streams.
type Streams struct{ In, Out, Err *os.File }

// Main runs one command line and returns the exit code.
func Main(ctx context.Context, life Life, args []string, s Streams) int {
	if life == Front && os.Getenv("HOME") == "" && os.Getenv("XDG_DATA_HOME") == "" {
		if home := userns.Home(); home != "" {
			os.Setenv("HOME", home) //nolint:errcheck // the name is right; our other lives, which are other users to themselves, get it from us
		}
	}
	p := &program{life: life, argv: args, streams: s}
	verb, err := p.run(ctx, args)
	return report(s.Err, verb, err)
}

// program is one command line on its way from words to action.
type program struct {
	life    Life
	argv    []string
	globals []string // the global flags, normalised
	streams Streams

	member bool        // the engine announces itself as a member of the user namespace
	host   *run.Host   // nil until somebody needed it before its verb
	launch *run.Launch // of a run whose monitor was started first of all
}

// globalFlags are those before the verb.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		option{"additional-image-store", "", "list", "Also read images from this containers/storage directory", ""},
		option{"context", "c", "string", "Accepted for compatibility: there is only the local machine", ""},
		option{"debug", "D", "", "Enable debug mode", ""},
		option{"host", "H", "list", "Accepted for compatibility: there is only the local machine", ""},
		option{"log-level", "l", "string", "Set the logging level (debug, info, warn, error, fatal)", "info"},
		option{"root", "", "string", "Directory of images, volumes and containers (default $XDG_DATA_HOME/skiff)", ""},
		option{"runroot", "", "string", "Directory of running state (default $XDG_RUNTIME_DIR/skiff)", ""},
		option{"storage-driver", "", "string", "How containers get their writable layer: overlay, fuse-overlayfs or vfs (default: the first that works)", ""},
		option{"version", "v", "", "Print version information and quit", ""},
	}
}

// run finds the verb, sorts its words and lets urfave/cli call its action. It returns the verb's name for the report.
func (p *program) run(ctx context.Context, args []string) (string, error) {
	if p.life == Front && len(args) > 2 && args[1] == "run" {
		p.begin(args[2:])
		defer p.launch.Abort() //nolint:errcheck // unless somebody has used it; what it says then nobody has asked for
	}
	verbs := allVerbs()
	globals, words, err := normalise(args[1:], globalFlags(), false)
	switch {
	case errors.Is(err, errHelp):
		printRootHelp(p.streams.Out, verbs, globalFlags())
		return "", nil
	case err != nil:
		return "", &usageError{text: err.Error(), code: exitOurs}
	}
	p.globals = globals
	if err := checkGlobals(globals); err != nil {
		return "", err
	}
	if slices.Contains(globals, "--version=true") {
		fmt.Fprintln(p.streams.Out, versionLine())
		return "", nil
	}
	v, rest := resolve(verbs, words)
	if v.names == "" {
		return "", p.noVerb(verbs, words)
	}
	if v.make == nil { // the engine's
		return v.name(), p.heavy(ctx, v, rest)
	}
	return v.name(), p.dispatch(ctx, v, v.make(), rest)
}

// begin starts the monitor of a container that is to run before the words are read: making the user namespace and starting the program take longer than that, and on another processor.
// Whatever is in the way will be met again, and said, by whoever needs it. Words that have a file read may wait for it, and nobody else should wait with them.
func (p *program) begin(words []string) {
	for _, w := range words {
		for _, slow := range []string{"--env-file", "--label-file", "--security-opt", "--help", "--pull"} {
			if strings.HasPrefix(w, slow) {
				return
			}
		}
	}
	records, err := record.Open(record.Options{Getenv: os.Getenv, Getuid: os.Getuid})
	if err != nil {
		return
	}
	h, err := hostAt(records, p.life, p.streams.Err)
	if err != nil {
		return
	}
	if p.launch, err = h.Launch(); err == nil {
		p.host = h
	}
}

// dispatch parses a verb's own words and runs it.
func (p *program) dispatch(ctx context.Context, v verb, cmd *cli.Command, words []string) error {
	flags, operands, err := normalise(words, cmd.Flags, !v.stops)
	switch {
	case errors.Is(err, errHelp):
		printHelp(p.streams.Out, v, cmd)
		return nil
	case err != nil:
		text := err.Error()
		if why := refusedFlag(v.name(), err); why != "" {
			text = fmt.Sprintf("cannot use %s: %s", strings.TrimPrefix(text, "unknown flag: "), why)
		}
		return &usageError{text: text, verb: v.name(), usage: usageLine(v, cmd), code: exitOurs}
	}
	if text := v.count(len(operands)); text != "" {
		return &usageError{text: text, verb: v.name(), usage: usageLine(v, cmd), code: codeOf(v.name(), nil)}
	}
	if v.inside && p.life == Front {
		return p.inside()
	}
	usage := usageLine(v, cmd)
	cmd.Name, cmd.Aliases = v.name(), nil
	cmd.HideHelp, cmd.HideHelpCommand = true, true
	full := cmd.Flags
	cmd.Flags = declared(cmd.Flags, flags)
	cmd.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
		return &usageError{text: badValue(err, full), verb: v.name(), usage: usage, code: exitOurs}
	}
	app := &cli.App{
		Name: "skiff", HideHelp: true, HideVersion: true,
		DisableSliceFlagSeparator: true,
		Reader:                    p.streams.In, Writer: p.streams.Out, ErrWriter: p.streams.Err,
		Flags:          declared(globalFlags(), p.globals),
		Commands:       []*cli.Command{cmd},
		Metadata:       map[string]any{"program": p},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	line := append(append([]string{"skiff"}, p.globals...), cmd.Name)
	line = append(append(append(line, flags...), "--"), operands...)
	return app.RunContext(ctx, line)
}

// declared leaves out the options that were not given and have no default: declaring a hundred of them for each
// start costs more than the rest of the parsing.
func declared(flags []cli.Flag, words []string) []cli.Flag {
	return slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool {
		o, ours := f.(option)
		return ours && o.def == "" && !slices.ContainsFunc(words, func(w string) bool {
			name, _, _ := strings.Cut(w, "=")
			return name == "--"+o.name
		})
	})
}

// checkGlobals refuses the global flags that ask for another machine.
func checkGlobals(globals []string) error {
	for _, g := range globals {
		name, value, _ := strings.Cut(g, "=")
		local := value == "" || value == "default" || value == "local"
		if (name == "--host" || name == "--context") && !local {
			return &usageError{
				text: fmt.Sprintf("cannot use %s %s: skiff has no daemon and works on the local machine only", name, value),
				code: exitOurs,
			}
		}
		if name == "--storage-driver" && value != "" && !slices.Contains(storageDrivers, value) {
			return &usageError{text: fmt.Sprintf("invalid argument %q for --storage-driver: it is one of %s", value, strings.Join(storageDrivers, ", ")), code: exitOurs}
		}
	}
	return nil
}

// storageDrivers are the kinds of layers that --storage-driver takes.
var storageDrivers = []string{"overlay", "fuse-overlayfs", "vfs"}

// badValue puts the flag package's complaint about a value into Docker's words.
func badValue(err error, flags []cli.Flag) string {
	text := err.Error()
	for _, prefix := range []string{"invalid value ", "invalid boolean value "} {
		quoted, ok := strings.CutPrefix(text, prefix)
		if !ok {
			continue
		}
		value, after, ok := strings.Cut(quoted, " for ")
		name, why, ok2 := strings.Cut(strings.TrimPrefix(after, "flag "), ": ")
		if !ok || !ok2 {
			break
		}
		name = "--" + strings.TrimLeft(name, "-")
		if o, ours := findFlag(flags, name[2:]).(option); ours && o.short != "" {
			name = "-" + o.short + ", " + name
		}
		return fmt.Sprintf("invalid argument %s for %q flag: %s", value, name, why)
	}
	return text
}

// programOf, streamsOf give an action what Main was given.
func programOf(c *cli.Context) *program { return c.App.Metadata["program"].(*program) }
func streamsOf(c *cli.Context) Streams  { return programOf(c).streams }
