//go:build switch

// Command skiff-switch is the network switch alone (ARCHITECTURE.md section 2): what the engine is too when argv[0] says so, without all that the engine links.
package main

import (
	"os"

	netswitch "github.com/skiff-containers/skiff/netns/switch"
)

func main() { os.Exit(netswitch.Main(os.Args[1:])) }
