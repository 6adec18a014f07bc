//go:build !front

package commands

// This file is --on-error=shell: a shell where a build failed.

import (
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/ops"
)

// wantsShell says whether a shell is asked for, and refuses it where there is nobody to type.
func wantsShell(c *cli.Context) (bool, error) {
	refuse := func(flag, why string) (bool, error) {
		return false, &usageError{text: fmt.Sprintf("cannot use --%s: %s", flag, why), verb: "build", code: exitOurs}
	}
	flag := "debug-shell"
	switch v := c.String("on-error"); {
	case v == "shell":
		flag = "on-error=shell"
	case v != "stop":
		return refuse("on-error", fmt.Sprintf("%q is neither stop nor shell", v))
	case !c.Bool("debug-shell"):
		return false, nil
	}
	if s := streamsOf(c); !isTerminal(s.In) || !isTerminal(s.Err) {
		return refuse(flag, "standard input and standard error are to be a terminal")
	}
	return true, nil
}

// failedShell is what a build calls when it has failed.
func failedShell(c *cli.Context) func(error, *ops.Failure) {
	s := streamsOf(c)
	return func(err error, step *ops.Failure) {
		build.PrintSource(s.Err, err)
		if step == nil {
			fmt.Fprintln(s.Err, "warning: no shell is opened: what failed is no RUN")
			return
		}
		fmt.Fprintf(s.Err, "%s has failed; this shell is where it ran. What it changes is thrown away when it ends, and the build with it.\n", step.Name())
		t := ops.Terminal{Type: os.Getenv("TERM"), Relay: func(console *os.File) { relayConsole(s, console) }}
		t.Rows, t.Cols = terminalSize(s.Err)
		if err := step.Shell(c.Context, t); err != nil {
			fmt.Fprintf(s.Err, "warning: %v\n", err)
		}
	}
}

// relayConsole connects our terminal with another until that has no other side any more; ours is then as it was.
func relayConsole(s Streams, console *os.File) {
	raw, err := rawTerminal(s.In)
	if err == nil { // else what is typed is shown twice
		defer raw.restore()
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case <-resized:
				rows, cols := terminalSize(s.Err)
				_ = unix.IoctlSetWinsize(int(console.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}) // the shell may just have ended
			case <-ended:
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(console, s.In) }() // the read that waits when the shell has ended goes with this process
	_, _ = io.Copy(s.Err, console)
}
