package commands

import (
	"bufio"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestDockerCommands walks Docker's commands and their flags: each is there, or refused with a reason.
func TestDockerCommands(t *testing.T) {
	file, err := os.Open("testdata/docker-commands.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	verbs := allVerbs()
	seen := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, flags, _ := strings.Cut(lines.Text(), "\t")
		words := strings.Fields(name)
		if strings.HasPrefix(name, "#") {
			continue
		}
		seen++
		v, rest := resolve(verbs, words)
		switch {
		case refusedVerb(words) != "":
			if v.names != "" {
				t.Errorf("%s is refused and there", name)
			}
			continue
		case v.names == "" && slices.ContainsFunc(groups(), func(g group) bool { return g.name == name }):
			continue
		case v.names == "" || len(rest) > 0:
			t.Errorf("there is no command %s, and no reason why", name)
			continue
		}
		if v.make == nil {
			cmd := engineCommands()[slices.IndexFunc(engineCommands(), func(c *cli.Command) bool { return c.Name == v.name() })]
			v.make = func() *cli.Command { return cmd }
		}
		known := v.make().Flags
		for f := range strings.FieldsSeq(flags) {
			long := strings.TrimPrefix(f[strings.LastIndex(f, "/")+1:], "--")
			if long != "help" && findFlag(known, long) == nil && refusedFlag(v.name(), unknownFlag(long)) == "" {
				t.Errorf("%s has no --%s, and no reason why", name, long)
			}
		}
	}
	if seen < 100 {
		t.Errorf("%d commands in the list", seen)
	}
	if why := refusedFlag("ps", errors.New("x")); why != "" {
		t.Error(why)
	}
}
