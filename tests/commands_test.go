package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommands are the commands of scripts beyond testscript's own.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"code":        cmdCode,
		"loader":      cmdLoader,
		"resolver":    cmdResolver,
		"config":      cmdConfig,
		"refuse":      cmdRefuse,
		"retry":       cmdRetry,
		"setenv":      cmdSetenv,
		"oneline":     cmdOneLine,
		"random":      cmdRandom,
		"parallel":    cmdParallel,
		"pty":         cmdPty,
		"registry":    cmdRegistry,
		"smalldisk":   cmdSmallDisk,
		"debian":      cmdDebian,
		"attacker":    cmdAttacker,
		"crash":       cmdCrash,
		"dockerfiles": cmdDockerfiles,
	}
}

// cmdCode runs a command and wants an exit code: code 42 skiff run IMAGE sh -c 'exit 42'.
func cmdCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARG...]")
	}
	if got := exitCode(ts.Exec(args[1], args[2:]...)); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// cmdRetry runs a command until its output matches, for ten seconds at most: retry REGEXP COMMAND [ARG...].
func cmdRetry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] retry REGEXP COMMAND [ARG...]")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if re.MatchString(out) != neg && (err == nil || neg) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("after ten seconds (%v) the output does not suit %q:\n%s", err, args[0], out)
		}
	}
}

// cmdSetenv keeps the last command's trimmed output in a variable: setenv ID.
func cmdSetenv(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: setenv NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdOneLine wants the last command to have said one line about what failed, and at most a hint besides, both without Go's own words.
func cmdOneLine(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.TrimSpace(ts.ReadFile("stderr"))
	lines := strings.Split(text, "\n")
	if len(lines) > 2 || len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ") || !strings.HasPrefix(text, "skiff: ") && !strings.HasPrefix(text, "skiff-oci: ") {
		ts.Fatalf("want one line `skiff: ...` and at most a `hint: ...`, got:\n%s", text)
	}
	for _, bad := range []string{"panic", "goroutine", "%!", "<nil>"} {
		if strings.Contains(text, bad) {
			ts.Fatalf("%q in the message: %s", bad, text)
		}
	}
	for _, want := range args {
		if !strings.Contains(text, want) {
			ts.Fatalf("the message does not name %q: %s", want, text)
		}
	}
}

// cmdRandom writes bytes that do not compress: random MEGABYTES FILE.
func cmdRandom(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: random MEGABYTES FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	source, block := rand.NewChaCha8([32]byte{1}), make([]byte, 1<<20)
	for range n {
		_, _ = source.Read(block)
		_, err = f.Write(block)
		ts.Check(err)
	}
	ts.Check(f.Close())
}

// cmdParallel runs a command N times at once, with {} replaced by the number, and wants all to succeed: parallel 32 skiff run ... .
// With a minus the number that succeeds is kept in $SUCCEEDED instead: parallel -8 skiff create --name web ... .
func cmdParallel(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: parallel [-]N COMMAND [ARG...]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	count := n < 0
	if count {
		n = -n
	}
	program, err := findProgram(ts, args[1])
	ts.Check(err)
	failures := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Add(1)
		go func() {
			defer group.Done()
			words := slices.Clone(args[2:])
			for j, w := range words {
				words[j] = strings.ReplaceAll(w, "{}", strconv.Itoa(i))
			}
			cmd := exec.Command(program, words...)
			cmd.Dir, cmd.Env = ts.MkAbs("."), environment(ts)
			if out, err := cmd.CombinedOutput(); err != nil {
				failures[i] = fmt.Errorf("number %d: %w\n%s", i, err, out)
			}
		}()
	}
	group.Wait()
	succeeded := 0
	for _, err := range failures {
		if err == nil {
			succeeded++
		} else if !count {
			ts.Logf("%v", err)
		}
	}
	if count {
		ts.Setenv("SUCCEEDED", strconv.Itoa(succeeded))
	} else if succeeded != n {
		ts.Fatalf("%d of %d succeeded", succeeded, n)
	}
}

// environment is what commands started beside the script's own get.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "LANG", "TERM", "TMPDIR"} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// findProgram looks a command up as the script's exec does.
func findProgram(ts *testscript.TestScript, name string) (string, error) {
	if name == "skiff" {
		return ts.Getenv("SKIFF"), nil
	}
	return exec.LookPath(name)
}

// skip ends the script as skipped, which the test's summary shows with the reason.
func skip(ts *testscript.TestScript, format string, args ...any) {
	if t, ok := ts.Value(scriptT{}).(interface{ Skip(...any) }); ok {
		t.Skip(fmt.Sprintf(format, args...))
	}
	ts.Fatalf(format, args...)
}

// scriptT is the key under which a script's set-up leaves its testing.T.
type scriptT struct{}

func goarch() string { return runtime.GOARCH }

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// hostSuite is the machine's own release: its package sources are the ones that work here.
func hostSuite() string {
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "bookworm"
}
