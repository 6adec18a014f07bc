package tests

// The script command crash: it lets every process of skiff's die after each of its changes to the file system, one change at a time. The program is the real one:
// the processes are traced (ptrace(2)), and the kernel tells of every rename, mkdir, unlink, link and write, the libraries' own among them.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// crasherName is what the test binary is called when it is the tracer.
const crasherName = "crasher"

// cmdCrash runs a script of commands once to count the changes that each process makes, and then again for each of them, killing that process after that change.
// After each run a second script looks whether all is well: what it prints is what is wrong. With a limit at most so many changes of each process are tried, evenly
// spread, unless $SKIFF_E2E_FULL is set: crash OPERATIONS CHECK [LIMIT].
func cmdCrash(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: crash OPERATIONS CHECK [LIMIT]")
	}
	limit := 0
	if len(args) == 3 && os.Getenv("SKIFF_E2E_FULL") == "" {
		var err error
		limit, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	c := crashes{ts: ts, operations: ts.MkAbs(args[0]), check: ts.MkAbs(args[1])}
	ts.Check(c.checkWell())
	counts, err := c.trace("", 0)
	if errors.Is(err, errNoTrace) {
		skip(ts, "processes cannot be traced here: %v", err)
	}
	ts.Check(err)
	ts.Check(c.checkWell())
	if len(counts) == 0 {
		ts.Fatalf("no process made a change")
	}
	points, died := 0, 0
	for role, n := range counts {
		step := 1
		if limit > 0 {
			step = (n + limit - 1) / limit
		}
		for at := 1; at <= n; at += step {
			points++
			got, err := c.trace(role, at)
			ts.Check(err)
			if got[role] >= at {
				died++ // processes beside one another do not make the same number each time
			}
			if err := c.checkWell(); err != nil {
				ts.Logf("after change %d of %d of %s was its last: %v", at, n, role, err)
				c.wrong++
			}
		}
	}
	ts.Logf("%v: %d deaths of %d tried", counts, died, points)
	if c.wrong > 0 || died*2 < points {
		ts.Fatalf("%d of %d deaths left something wrong", c.wrong, died)
	}
}

type crashes struct {
	ts                *testscript.TestScript
	operations, check string
	wrong             int
}

// checkWell runs the second script and returns what it says.
func (c *crashes) checkWell() error {
	cmd := exec.Command("timeout", "60", "sh", c.check)
	cmd.Dir, cmd.Env = c.ts.MkAbs("."), c.environment()
	out, err := cmd.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		return fmt.Errorf("%v: %s", err, out)
	}
	return nil
}

func (c *crashes) environment() []string {
	return append(environment(c.ts), "DATA="+c.ts.Getenv("DATA"), "SKIFF="+c.ts.Getenv("SKIFF"))
}

var errNoTrace = errors.New("cannot trace")

// trace runs the operations; the process called role dies after its change number at. It returns how many changes each made.
func (c *crashes) trace(role string, at int) (map[string]int, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Whatever the operations leave running would keep a pipe open: the answer comes in a file.
	answer := c.ts.MkAbs(".changes")
	cmd := exec.Command(self, role, strconv.Itoa(at), answer, "sh", c.operations)
	cmd.Args[0] = crasherName
	cmd.Dir, cmd.Env = c.ts.MkAbs("."), c.environment()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	hung := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	if !hung.Stop() {
		return nil, fmt.Errorf("the operations hung when change %d of %s was its last", at, role)
	}
	if exitCode(err) == exitNoTrace {
		return nil, errNoTrace
	}
	if err != nil {
		return nil, fmt.Errorf("the tracer: %w", err)
	}
	data, err := os.ReadFile(answer)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	return counts, json.Unmarshal(data, &counts)
}

// exitNoTrace is the tracer's code where tracing is not allowed.
const exitNoTrace = 77

// crash is the life of the tracer: args are a role, a number, a file for the answer, and a command. When the command has ended the tracer ends too, and what still runs goes
// on untraced.
func crash(args []string) int {
	if len(args) < 4 {
		return 2
	}
	at, err := strconv.Atoi(args[1])
	if err != nil {
		return 2
	}
	runtime.LockOSThread() // all requests have to come from the thread that attached
	t := &tracer{role: args[0], at: at, counts: map[string]int{}, names: map[int]string{}, executed: map[int]bool{}, calls: map[int]bool{}}
	err = t.run(args[3:])
	if errors.Is(err, errNoTrace) {
		return exitNoTrace
	}
	data, jsonErr := json.Marshal(t.counts)
	if err = errors.Join(err, jsonErr, os.WriteFile(args[2], data, 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// nameOf is what a process of skiff's is called here: its argv[0], and of a command the verb. It is "" for other programs.
func nameOf(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	words := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	name := filepath.Base(words[0])
	if !strings.HasPrefix(name, "skiff") && !strings.HasPrefix(name, "storage-") {
		return ""
	}
	if name == "skiff" || name == "skiff-engine" {
		for _, word := range words[1:] {
			if !strings.HasPrefix(word, "-") {
				return name + " " + word
			}
		}
	}
	return name
}
