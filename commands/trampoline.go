package commands

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/record"
)

// InsideStage is argv[0] of a front that runs a light verb inside the user namespace.
const InsideStage = "skiff-inside"

// heavy runs an engine verb: here, when this process is the engine, else by handing the words to one.
func (p *program) heavy(ctx context.Context, v verb, words []string) error {
	i := slices.IndexFunc(engineCommands(), func(c *cli.Command) bool { return c.Name == v.name() })
	cmd := engineCommands()[i]
	if p.life == Engine && cmd.Action != nil {
		return p.dispatch(ctx, v, cmd, words)
	}
	argv := slices.Concat([]string{stage.Engine}, p.globals, strings.Fields(v.name()), words)
	if asksForHelp(words) {
		return p.engineHelp(ctx, v, cmd, argv, words)
	}
	p.member = v.name() == "build" // whose commands the switch connects: it must be in the same user namespace
	return p.enter(enginePath, argv, p.streams)
}

// asksForHelp finds --help among words before any "--".
func asksForHelp(words []string) bool {
	end := slices.Index(words, "--")
	if end < 0 {
		end = len(words)
	}
	return slices.Contains(words[:end], "--help") || slices.Contains(words[:end], "-h")
}

// engineHelp prints an engine verb's help; nobody needs a namespace to read it.
func (p *program) engineHelp(ctx context.Context, v verb, cmd *cli.Command, argv, words []string) error {
	if cmd.Action != nil {
		return p.dispatch(ctx, v, cmd, words)
	}
	path, err := enginePath()
	if err != nil {
		return err
	}
	return runChild(ctx, path, argv, p.streams)
}

// inside runs this very command line again inside the user namespace.
func (p *program) inside() error {
	return p.enter(os.Executable, append([]string{InsideStage}, p.argv[1:]...), p.streams)
}

// enter runs a program inside the user's user namespace, forwards signals to it and ends with its code. One of ours is
// told where the state is: what is found by the user's id is not found by root.
func (p *program) enter(find func() (string, error), argv []string, s Streams) error {
	path, err := find()
	if err != nil {
		return err
	}
	records, err := record.Open(record.Options{
		Root: global(p.globals, "root"), RunRoot: global(p.globals, "runroot"), Getenv: os.Getenv, Getuid: os.Getuid,
	})
	if err != nil {
		return err
	}
	if argv[0] == InsideStage || argv[0] == stage.Engine {
		argv = slices.Insert(argv, 1, "--root="+records.Data, "--runroot="+filepath.Dir(records.Run))
	}
	o := userns.Options{Path: path, Args: argv, Files: []*os.File{s.In, s.Out, s.Err}, RunDir: records.Run, Member: p.member}
	if p.member {
		o.Env = append(os.Environ(), memberVariable+"="+records.Run)
	}
	child, err := userns.Start(o)
	if err != nil {
		return err
	}
	return waitForwarding(child)
}

// memberVariable tells an engine that others may join its user namespace through it: its value is the runtime directory where it says so.
const memberVariable = "SKIFF_ENGINE_MEMBER"

// waitForwarding waits for a child and passes on the signals that would have ended this process. What the terminal
// sends reaches the child anyway; hearing it twice is harmless to programs of ours.
func waitForwarding(child *userns.Child) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	go func() {
		for sig := range signals {
			if number, ok := sig.(unix.Signal); ok {
				_ = child.Signal(number) // it may have ended: then Wait says so
			}
		}
	}()
	return ended(child.Wait())
}

// runAgain reads another command line in this one's place, with the same global flags.
func (p *program) runAgain(words []string) error {
	_, err := p.run(context.Background(), append(append([]string{p.argv[0]}, p.globals...), words...))
	return err
}

// global is the value of a normalised global flag; the last one wins.
func global(globals []string, name string) (value string) {
	for _, g := range globals {
		if v, ok := strings.CutPrefix(g, "--"+name+"="); ok {
			value = v
		}
	}
	return value
}

// engineBeside finds the engine executable of a split installation: in libexec beside the front's directory, or in the front's own.
func engineBeside(self string) (string, error) {
	dir := filepath.Dir(self)
	for _, path := range []string{
		filepath.Join(dir, "..", "libexec", "skiff", "skiff-engine"),
		filepath.Join(dir, "libexec", "skiff", "skiff-engine"),
		filepath.Join(dir, "skiff-engine"),
	} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", hinted{
		fmt.Errorf("cannot find the engine: no libexec/skiff/skiff-engine beside %s", dir),
		"install both files together, or use the single-file build",
	}
}
