package tests

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands of scripts are tested without the program.
func TestScriptCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "harness",
		Cmds: scriptCommands(),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", os.Getenv("PATH"))
			env.Setenv("TERM", "xterm")
			env.Values[scriptT{}] = env.T()
			return nil
		},
	})
}
