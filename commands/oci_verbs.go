package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/bundle"
	"github.com/skiff-containers/skiff/run/config"
)

// ociVerbs is the table of operations.
func ociVerbs() []ociVerb {
	create := []cli.Flag{
		option{"bundle", "b", "string", "Directory of the bundle (default: the working directory)", ""},
		option{"console-socket", "", "string", "Socket that takes the terminal", ""},
		option{"no-new-keyring", "", "", "Accepted for compatibility: no keyring is made", ""},
		option{"no-pivot", "", "", "Refused: the root is changed by pivot_root", ""},
		option{"pid-file", "", "string", "File that gets the first process's id", ""},
		option{"preserve-fds", "", "int", "How many descriptors from 3 up the process inherits", "0"},
	}
	run := append([]cli.Flag{
		option{"detach", "d", "", "Do not wait for the container's end", ""},
		option{"keep", "", "", "Do not delete the container at its end", ""},
		option{"no-subreaper", "", "", "Accepted for compatibility", ""},
	}, create...)
	return []ociVerb{
		{name: "create", args: "ID", usage: "Create a container from a bundle", flags: create, least: 1, most: 1, do: ociCreate},
		{name: "start", args: "ID", usage: "Start a created container", least: 1, most: 1, do: ociStart},
		{name: "state", args: "ID", usage: "Print the state of a container", least: 1, most: 1, do: ociState},
		{name: "kill", args: "ID [SIGNAL]", usage: "Send a signal to a container (default TERM)", least: 1, most: 2, do: ociKill, flags: []cli.Flag{
			option{"all", "a", "", "Send it to all processes of the container", ""},
		}},
		{name: "delete", args: "ID", usage: "Delete a stopped container", least: 1, most: 1, do: ociDelete, flags: []cli.Flag{
			option{"force", "f", "", "End it first; a container that is not there is no error", ""},
		}},
		{name: "run", args: "ID", usage: "Create, start, wait for and delete a container", flags: run, least: 1, most: 1, do: ociRun},
		{name: "exec", args: "ID [COMMAND ARG...]", usage: "Execute a process in a container", flags: ociExecFlags(), least: 1, most: -1, stops: true, do: ociExec},
		{name: "ps", args: "ID", usage: "List the processes of a container", least: 1, most: -1, do: ociPs, flags: []cli.Flag{
			option{"format", "f", "string", "table or json", "table"},
		}},
		{name: "list", usage: "List containers", do: ociList, flags: []cli.Flag{
			option{"format", "f", "string", "table or json", "table"},
			option{"quiet", "q", "", "Print ids only", ""},
		}},
		{name: "features", usage: "Print what the runtime can do", do: ociFeatures},
	}
}

// ociLoad finds the container that the first word names.
func ociLoad(c *ociCall) (*bundle.Container, error) {
	root, err := c.root()
	if err != nil {
		return nil, err
	}
	return bundle.Load(root, c.words[0])
}

func (c *ociCall) stdio() [3]*os.File { return [3]*os.File{c.In, c.Out, c.Err} }

// keep is --preserve-fds: descriptors that must be open, since what we open ourselves takes the first free number.
func (c *ociCall) keep() (int, error) {
	text := c.flag("preserve-fds")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1000 {
		return 0, fmt.Errorf("invalid argument %q for --preserve-fds: it is a number of descriptors", text)
	}
	for fd := 3; fd < 3+n; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return 0, fmt.Errorf("cannot preserve %d descriptors: %d is not open", n, fd)
		}
	}
	return n, nil
}

// options are what create and run have in common.
func (c *ociCall) options() (o bundle.Options, err error) {
	if c.has("no-pivot") {
		return o, errors.New("cannot honour --no-pivot: the root is changed by pivot_root")
	}
	if o.Keep, err = c.keep(); err != nil {
		return o, err
	}
	o.Root, err = c.root()
	o.ID, o.Bundle, o.PidFile, o.ConsoleSocket, o.Stdio = c.words[0], c.flag("bundle"), c.flag("pid-file"), c.flag("console-socket"), c.stdio()
	return o, err
}

func ociCreate(c *ociCall) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	container, err := bundle.Create(o)
	if err == nil {
		c.warn(container.Warnings)
	}
	return err
}

func ociStart(c *ociCall) error {
	container, err := ociLoad(c)
	if err != nil {
		return err
	}
	return container.Start(c.stdio())
}

func ociState(c *ociCall) error {
	container, err := ociLoad(c)
	if err != nil {
		return err
	}
	return c.print(container.State())
}

// print writes JSON as other runtimes do.
func (c *ociCall) print(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = c.Out.Write(append(data, '\n'))
	}
	return err
}

func ociKill(c *ociCall) error {
	container, err := ociLoad(c)
	if err != nil {
		return err
	}
	sig := unix.SIGTERM
	if len(c.words) > 1 {
		if sig, err = config.ParseSignal(c.words[1]); err != nil {
			return err
		}
	}
	return container.Kill(sig, c.has("all"))
}

func ociDelete(c *ociCall) error {
	root, err := c.root()
	if err != nil {
		return err
	}
	warning, err := bundle.Delete(root, c.words[0], c.has("force"))
	if warning != nil {
		fmt.Fprintf(c.Err, "%s: %s\n", OCIName, message(warning))
	}
	return err
}

func ociPs(c *ociCall) error {
	container, err := ociLoad(c)
	if err != nil {
		return err
	}
	pids, err := container.Processes()
	if err != nil {
		return err
	}
	if c.flag("format") == "json" {
		return c.print(pids)
	}
	t := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PID\tCMD")
	for _, pid := range pids {
		words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has ended
		}
		fmt.Fprintf(t, "%d\t%s\n", pid, strings.ReplaceAll(strings.TrimRight(string(words), "\x00"), "\x00", " "))
	}
	return t.Flush()
}

func ociList(c *ociCall) error {
	root, err := c.root()
	if err != nil {
		return err
	}
	list, err := bundle.List(root)
	if err != nil {
		return err
	}
	if c.flag("format") == "json" {
		states := make([]bundle.State, 0, len(list))
		for _, container := range list {
			states = append(states, container.State())
		}
		return c.print(states)
	}
	t := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	if !c.has("quiet") {
		fmt.Fprintln(t, "ID\tPID\tSTATUS\tBUNDLE\tCREATED")
	}
	for _, container := range list {
		s := container.State()
		if c.has("quiet") {
			fmt.Fprintln(t, s.ID)
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", s.ID, s.Pid, s.Status, s.Bundle, s.Created.Format("2006-01-02T15:04:05Z07:00"))
	}
	return t.Flush()
}

// processOf reads a file with a process of the runtime spec.
func processOf(name string) (*specs.Process, error) {
	data, err := os.ReadFile(name)
	p := &specs.Process{}
	if err == nil {
		err = json.Unmarshal(data, p)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the process: %w", err)
	}
	return p, nil
}
