package commands

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/disk"
)

// The exit codes besides a payload's own (and 128+n when signal n ended it).
const (
	exitFailed     = 1   // a command that runs no payload failed
	exitOurs       = 125 // run, create, exec: skiff failed, not the payload; and every misused flag
	exitCannotExec = 126 // the payload is there and cannot be executed
	exitNotFound   = 127 // the payload is not there
)

// exitCode is an error without words: the command ends with this code.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a command line that cannot be understood.
type usageError struct {
	text  string
	verb  string // "run", "volume create"; "" is skiff itself
	usage string // its usage line
	code  int
}

func (e *usageError) Error() string { return e.text }

// hinted adds what the user can do next to an error.
type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }

// report says why a command failed and returns its exit code; verb is the command's full name. It is the only place
// where an error becomes text and a code.
func report(w io.Writer, verb string, err error) int {
	var code exitCode
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(w, "skiff: %s\n", usage.text)
		if usage.usage != "" {
			fmt.Fprintf(w, "\nUsage:  %s\n", usage.usage)
		}
		fmt.Fprintf(w, "\nSee '%s --help'.\n", strings.TrimSpace("skiff "+usage.verb))
		return usage.code
	}
	fmt.Fprintf(w, "skiff: %s\n", message(err))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return codeOf(verb, err)
}

// hintOf is what the user can do about an error: a verb's own word, or that of the package whose error it is.
func hintOf(err error) string {
	var ours interface{ Hint() string }
	if errors.As(err, &ours) && ours.Hint() != "" {
		return ours.Hint()
	}
	var theirs interface{ HintText() string }
	if errors.As(err, &theirs) && theirs.HintText() != "" {
		return theirs.HintText()
	}
	if strings.Contains(err.Error(), unix.EMFILE.Error()) { // by its words: a monitor's answer has no number
		return "raise the limit of open files (ulimit -n): 64 are enough for a container"
	}
	return disk.Hint(err)
}

// misused is an error in the value of a flag; Unwrap gives the reason.
type misused struct{ error }

func (m misused) Unwrap() error { return m.error }

// codeOf maps an error to the exit code of a verb.
func codeOf(verb string, err error) int {
	var exec *oci.ExecError
	var flag misused
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(err, &exec) && exec.Errno == unix.ENOENT:
		return exitNotFound
	case errors.As(err, &exec):
		return exitCannotExec
	case errors.As(err, &flag):
		return exitOurs
	case errors.As(err, &coded) && coded.ExitCode() != 0 && coded.ExitCode() != exitOurs: // which is for some verbs only, whatever the monitor says
		return coded.ExitCode()
	}
	switch verb {
	case "run", "create", "exec":
		return exitOurs
	}
	return exitFailed
}

// message is the error's text on as few lines as it has: joined errors come one per line, each named ours. What is in the way of an action may be in the way of its undoing too: it is said once.
func message(err error) string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\nskiff: ")
}
