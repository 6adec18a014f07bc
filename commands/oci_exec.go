package commands

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/bundle"
)

func ociExecFlags() []cli.Flag {
	return []cli.Flag{
		option{"additional-gids", "g", "list", "Groups that the process is in besides", ""},
		option{"cap", "c", "list", "Capabilities that the process has besides", ""},
		option{"console-socket", "", "string", "Socket that takes the terminal", ""},
		option{"cwd", "", "string", "Working directory in the container", ""},
		option{"detach", "d", "", "Do not wait for the process's end", ""},
		option{"env", "e", "list", "Variables of the environment: NAME=VALUE", ""},
		option{"no-new-privs", "", "", "Set no_new_privs", ""},
		option{"pid-file", "", "string", "File that gets the process's id", ""},
		option{"preserve-fds", "", "int", "How many descriptors from 3 up the process inherits", "0"},
		option{"process", "p", "string", "File with the process (process of config.json)", ""},
		option{"tty", "t", "", "Give it a terminal", ""},
		option{"user", "u", "string", "UID[:GID]", ""},
	}
}

func ociExec(c *ociCall) error {
	container, err := ociLoad(c)
	if err != nil {
		return err
	}
	p, err := c.process(container)
	if err != nil {
		return err
	}
	o := bundle.ExecOptions{Process: p, PidFile: c.flag("pid-file"), Stdio: c.stdio()}
	if o.Keep, err = c.keep(); err != nil {
		return err
	}
	f := &foreground{streams: c.Streams}
	if err := f.prepare(p.Terminal, c.has("detach"), c.flag("console-socket")); err != nil {
		return err
	}
	defer f.end()
	o.Console = f.console
	pid, err := container.Exec(o)
	c.warn(container.Warnings)
	if err != nil || c.has("detach") {
		return err
	}
	return f.wait(pid)
}

// process is the process to be executed: that of --process, or the container's own with other words.
func (c *ociCall) process(container *bundle.Container) (*specs.Process, error) {
	if name := c.flag("process"); name != "" {
		p, err := processOf(name)
		if err == nil && c.has("tty") {
			p.Terminal = true
		}
		return p, err
	}
	if len(c.words) < 2 {
		return nil, errors.New("exec: there must be a command or --process")
	}
	if container.Spec.Process == nil {
		return nil, errors.New("exec: the container has no process to take the user and the environment from; name one with --process")
	}
	p := *container.Spec.Process
	p.Args, p.Terminal, p.ConsoleSize = c.words[1:], c.has("tty"), nil
	if cwd := c.flag("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	p.Env = append(slices.Clone(p.Env), c.flags["env"]...)
	p.NoNewPrivileges = p.NoNewPrivileges || c.has("no-new-privs")
	if user := c.flag("user"); user != "" {
		uid, gid, both := strings.Cut(user, ":")
		p.User = specs.User{Umask: p.User.Umask}
		if err := number("--user", uid, &p.User.UID); err != nil {
			return nil, err
		}
		if both {
			if err := number("--user", gid, &p.User.GID); err != nil {
				return nil, err
			}
		}
	}
	for _, text := range c.flags["additional-gids"] {
		var gid uint32
		if err := number("--additional-gids", text, &gid); err != nil {
			return nil, err
		}
		p.User.AdditionalGids = append(slices.Clone(p.User.AdditionalGids), gid)
	}
	if more := c.flags["cap"]; len(more) > 0 {
		caps := specs.LinuxCapabilities{}
		if p.Capabilities != nil {
			caps = *p.Capabilities
		}
		caps.Bounding = slices.Concat(caps.Bounding, more)
		caps.Permitted = slices.Concat(caps.Permitted, more)
		caps.Effective = slices.Concat(caps.Effective, more)
		p.Capabilities = &caps
	}
	return &p, nil
}

func number(flag, text string, into *uint32) error {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("invalid argument %q for %s: it is a number", text, flag)
	}
	*into = uint32(n)
	return nil
}

func ociRun(c *ociCall) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	terminal, err := bundle.WantsTerminal(o.Bundle)
	if err != nil {
		return err
	}
	f := &foreground{streams: c.Streams}
	if err := f.prepare(terminal, c.has("detach"), o.ConsoleSocket); err != nil {
		return err
	}
	defer f.end()
	if terminal {
		o.ConsoleSocket, o.Console = "", f.console
	}
	container, err := bundle.Create(o)
	if err != nil {
		return err
	}
	c.warn(container.Warnings)
	remove := func() error {
		_, err := bundle.Delete(o.Root, o.ID, true)
		return err
	}
	if err := container.Start(c.stdio()); err != nil {
		return errors.Join(err, remove())
	}
	if c.has("detach") {
		return nil
	}
	err = f.wait(container.Pid)
	if !c.has("keep") {
		var code exitCode
		if failed := remove(); failed != nil && errors.As(err, &code) {
			return failed
		}
	}
	return err
}

// foreground is a process that this command waits for: its terminal, when it has one, is joined with ours.
type foreground struct {
	streams Streams
	socket  string // of --console-socket
	master  *os.File
	raw     *terminal
	done    chan struct{} // closed when all output has been copied
}

// prepare checks the combination of flags and makes this process the one that orphans come to.
func (f *foreground) prepare(terminal, detach bool, socket string) error {
	switch {
	case terminal && detach && socket == "":
		return errors.New("cannot detach from a process with a terminal: --console-socket must say where to send that")
	case !terminal && socket != "":
		return errors.New("cannot use --console-socket: the process has no terminal")
	case detach:
		f.socket = socket
		return nil
	}
	f.socket = socket
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot wait for the container: %w", err)
	}
	return nil
}

// console takes the process's terminal.
func (f *foreground) console(master *os.File) (err error) {
	if f.socket != "" {
		return bundle.SendConsole(f.socket)(master)
	}
	if master == nil {
		return nil
	}
	// The conversation's descriptor is closed behind us.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return fmt.Errorf("cannot use the terminal: %w", err)
	}
	f.master = os.NewFile(uintptr(fd), "terminal")
	f.resize()
	if f.raw, err = rawTerminal(f.streams.In); err != nil {
		return fmt.Errorf("cannot use the terminal: %w", err)
	}
	f.done = make(chan struct{})
	go func() {
		_, _ = io.Copy(f.streams.Out, f.master) // EIO: nobody has the other side any more
		close(f.done)
	}()
	go func() {
		_, _ = io.Copy(f.master, f.streams.In) // it ends with the process
	}()
	return nil
}

// resize gives the process's terminal the size of ours.
func (f *foreground) resize() {
	if rows, cols := terminalSize(f.streams.In); rows > 0 {
		_ = unix.IoctlSetWinsize(int(f.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}) // the size is a courtesy
	}
}

// wait passes signals on to the process until it has ended, and returns its exit code as an error.
func (f *foreground) wait(pid int) error {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals)
	defer signal.Stop(signals)
	if f.master != nil {
		f.resize() // it may have changed before we listened
	}
	ended := make(chan int, 1)
	go func() { ended <- waitFor(pid) }()
	for {
		select {
		case code := <-ended:
			if f.done != nil {
				<-f.done
			}
			if code != 0 {
				return exitCode(code)
			}
			return nil
		case s := <-signals:
			switch sig := s.(unix.Signal); sig {
			case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
			case unix.SIGWINCH:
				if f.master != nil {
					f.resize()
				}
			default:
				_ = unix.Kill(pid, sig) // not reaped as long as we are here: the number is its
			}
		}
	}
}

// waitFor reaps children until pid has ended: its exit code, or 128+n after signal n.
func waitFor(pid int) int {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return exitOurs
		case got != pid:
		case ws.Signaled():
			return 128 + int(ws.Signal())
		default:
			return ws.ExitStatus()
		}
	}
}

// end gives the terminal back.
func (f *foreground) end() {
	if f.raw != nil {
		f.raw.restore()
	}
}
