package commands

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/disk"
)

func TestReport(t *testing.T) {
	missing := &oci.ExecError{Path: "frob", Step: "exec", Errno: unix.ENOENT}
	denied := &oci.ExecError{Path: "/etc/passwd", Step: "exec", Errno: unix.EACCES}
	tests := []struct {
		name, verb string
		err        error
		code       int
		text       string
	}{
		{name: "nothing", verb: "ps"},
		{name: "a payload's code", verb: "run", err: exitCode(42), code: 42},
		{name: "not found", verb: "run", err: fmt.Errorf("cannot start web: %w", missing), code: 127, text: "skiff: cannot start web: exec frob: no such file or directory\n"},
		{name: "not executable", verb: "exec", err: fmt.Errorf("cannot start: %w", denied), code: 126, text: "skiff: cannot start: exec /etc/passwd: permission denied\n"},
		{name: "ours", verb: "run", err: errors.New("no such image"), code: 125, text: "skiff: no such image\n"},
		{name: "another verb", verb: "ps", err: errors.New("broken"), code: 1, text: "skiff: broken\n"},
		{name: "a misused flag", verb: "build", err: fmt.Errorf("x: %w", misused{errors.New("cannot use --y")}), code: 125, text: "skiff: x: cannot use --y\n"},
		{name: "hint", verb: "ps", err: fmt.Errorf("x: %w", hinted{errors.New("broken"), "mend it"}), code: 1, text: "skiff: x: broken\nhint: mend it\n"},
		{name: "several", verb: "rm", err: errors.Join(errors.New("a"), errors.New("b")), code: 1, text: "skiff: a\nskiff: b\n"},
		{name: "usage", verb: "run", err: &usageError{text: "unknown flag: --x", verb: "run", usage: "skiff run", code: 125}, code: 125, text: "skiff: unknown flag: --x\n\nUsage:  skiff run\n\nSee 'skiff run --help'.\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if code := report(&out, tt.verb, tt.err); code != tt.code || out.String() != tt.text {
				t.Errorf("code %d %q, want %d %q", code, out.String(), tt.code, tt.text)
			}
		})
	}
}

func TestHintOf(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"none":               {errors.New("x"), ""},
		"a full disk":        {&os.PathError{Op: "write", Path: "/data/x", Err: unix.ENOSPC}, disk.FullHint},
		"a full redirection": {&os.PathError{Op: "write", Path: "/dev/stdout", Err: unix.ENOSPC}, ""},
		"few files":          {errors.New("cannot open x: too many open files"), "raise the limit of open files (ulimit -n): 64 are enough for a container"},
		"a verb's":           {hinted{errors.New("x"), "do this"}, "do this"},
		"a package's":        {fmt.Errorf("x: %w", &run.ErrFailed{Text: "x", Hint: "do that"}), "do that"},
	} {
		if got := hintOf(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
