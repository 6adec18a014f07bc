//go:build !switch

// Command skiff runs containers without a daemon and without root.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/skiff-containers/skiff/commands"
	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/monitor"
	"github.com/skiff-containers/skiff/run/stage"
)

// main says which of the program's lives this process is; each has its own argv[0] (see run/stage).
func main() {
	switch os.Args[0] {
	case stage.Monitor:
		os.Exit(monitor.Main(os.Args[1:]))
	case stage.Sweep:
		os.Exit(run.SweepMain(os.Args[1:]))
	case stage.OCI:
		os.Exit(commands.OCIStage(os.Args[1:]))
	}
	if os.Args[0] == stage.Switch {
		os.Exit(commands.SwitchMain(os.Args[1:]))
	}
	if commands.Reexecuted() {
		return
	}
	ctx, streams := context.Background(), commands.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	switch os.Args[0] {
	case stage.Devices:
		os.Exit(commands.DevicesMain(os.Args[1:], streams))
	case stage.DHCP:
		os.Exit(commands.DHCPMain(streams))
	case stage.Engine:
		os.Exit(commands.EngineMain(ctx, os.Args, streams))
	case commands.InsideStage:
		os.Exit(commands.Main(ctx, commands.Inside, os.Args, streams))
	}
	if filepath.Base(os.Args[0]) == commands.OCIName {
		os.Exit(commands.OCIMain(os.Args[1:], streams))
	}
	if len(os.Args) > 1 && os.Args[1] == "oci" {
		os.Exit(commands.OCIMain(os.Args[2:], streams))
	}
	os.Exit(commands.Main(ctx, commands.Front, os.Args, streams))
}
