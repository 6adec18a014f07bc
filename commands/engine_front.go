//go:build front

package commands

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

// engineCommands lists the engine's verbs by name and usage; what they do is in the engine, a second executable.
func engineCommands() []*cli.Command {
	var list []*cli.Command
	for _, v := range heavyVerbs() {
		list = append(list, v.command())
	}
	return list
}

// enginePath is the executable that knows the engine's verbs.
func enginePath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find skiff's own executable: %w", err)
	}
	return engineBeside(self)
}

// Reexecuted is the engine's: it runs steps of its own as processes named by argv[0].
func Reexecuted() bool { return false }

// SwitchMain refuses: this executable has no switch in it.
func SwitchMain([]string) int { return exitOurs }

// DevicesMain refuses: this executable reads no specs of devices.
func DevicesMain([]string, Streams) int { return exitOurs }

// DHCPMain refuses: this executable asks no server for addresses.
func DHCPMain(Streams) int { return exitOurs }

// EngineMain refuses: this executable has no engine in it.
func EngineMain(_ context.Context, _ []string, s Streams) int {
	return report(s.Err, "", fmt.Errorf("cannot run as the engine: this executable is the front only"))
}
