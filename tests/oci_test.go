package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdConfig writes a bundle's config.json from the script's file of that name, with the user's ids and every match of a pattern replaced: config BUNDLE [REGEXP TEXT]...
// A TEXT of @FILE is the content of a file, in which $WORK and $LIMITS are replaced, and $PID by a number that no other script has.
func cmdConfig(ts *testscript.TestScript, _ bool, args []string) {
	if len(args)%2 == 0 {
		ts.Fatalf("usage: config BUNDLE [REGEXP TEXT]...")
	}
	text := ts.ReadFile("config.json")
	for _, id := range [][2]string{{`"UID"`, strconv.Itoa(os.Getuid())}, {`"GID"`, strconv.Itoa(os.Getgid())}} {
		text = strings.ReplaceAll(text, id[0], id[1])
	}
	for i := 1; i < len(args); i += 2 {
		with := args[i+1]
		if name, ok := strings.CutPrefix(with, "@"); ok {
			with = strings.NewReplacer("$WORK", ts.Getenv("WORK"), "$LIMITS", ts.Getenv("LIMITS"), "$PID", strconv.Itoa(os.Getpid())+filepath.Base(filepath.Dir(ts.Getenv("WORK")))).Replace(ts.ReadFile(name))
		}
		re, err := regexp.Compile(args[i])
		ts.Check(err)
		if !re.MatchString(text) {
			ts.Fatalf("config.json has no %q", args[i])
		}
		text = re.ReplaceAllLiteralString(text, with)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+"/config.json"), []byte(text), 0o644))
}

// cmdRefuse wants that a bundle whose config.json is changed so cannot be created, with one line that has the text, and that nothing is left: refuse REGEXP TEXT WANT.
func cmdRefuse(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: refuse REGEXP TEXT WANT")
	}
	cmdConfig(ts, false, []string{"b", args[0], args[1]})
	if err := ts.Exec(ts.MkAbs("skiff-oci"), "create", "--bundle", "b", "refused"); err == nil {
		ts.Fatalf("it was created")
	}
	cmdOneLine(ts, false, []string{args[2]})
	ts.Check(ts.Exec(ts.MkAbs("skiff-oci"), "list", "-q"))
	if left := ts.ReadFile("stdout"); left != "" {
		ts.Fatalf("left: %s", left)
	}
}
