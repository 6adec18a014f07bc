package commands

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Version of the program.
const Version = "0.1.0"

// apiVersion is the version of Docker's API whose shapes the JSON outputs follow.
const apiVersion = "1.51"

func versionCommand() *cli.Command {
	return &cli.Command{
		Usage:  "Show the version information",
		Flags:  []cli.Flag{inspectFormat()},
		Action: printVersion,
	}
}

// versionLine is what --version prints.
func versionLine() string {
	if commit, _ := buildCommit(); commit != "" {
		return fmt.Sprintf("skiff version %s, build %s", Version, commit)
	}
	return "skiff version " + Version
}

// buildCommit is the commit the binary was built from and its time, where the build noted them.
func buildCommit() (commit, at string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", ""
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(7, len(s.Value))]
		case "vcs.time":
			at = s.Value
		}
	}
	return commit, at
}

// versionInfo has Docker's two halves; skiff has no server, and its one half is shown as both.
type versionInfo struct {
	Client, Server versionHalf
}

type versionHalf struct {
	Platform      struct{ Name string }
	Version       string
	ApiVersion    string //nolint:revive // Docker's spelling
	MinAPIVersion string `json:",omitempty"`
	GitCommit     string
	GoVersion     string
	Os            string
	Arch          string
	KernelVersion string `json:",omitempty"`
	BuildTime     string `json:",omitempty"`
	Context       string `json:",omitempty"`
	Experimental  bool   `json:",omitempty"`
}

func printVersion(c *cli.Context) error {
	half := versionHalf{Version: Version, ApiVersion: apiVersion, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
	half.GitCommit, half.BuildTime = buildCommit()
	half.Platform.Name = "skiff"
	v := versionInfo{Client: half, Server: half}
	v.Client.Context = "default"
	v.Server.MinAPIVersion, v.Server.KernelVersion = "1.24", kernelVersion()
	switch format := c.String("format"); format {
	case "":
		fmt.Fprintln(c.App.Writer, "skiff (no server: each command does its own work)")
		for _, line := range [][2]string{
			{"Version", Version},
			{"API version", apiVersion},
			{"Go version", half.GoVersion},
			{"Git commit", half.GitCommit},
			{"Built", half.BuildTime},
			{"OS/Arch", half.Os + "/" + half.Arch},
			{"Kernel", v.Server.KernelVersion},
		} {
			if line[1] != "" {
				fmt.Fprintf(c.App.Writer, " %-18s %s\n", line[0]+":", line[1])
			}
		}
		return nil
	case "json":
		return json.NewEncoder(c.App.Writer).Encode(v)
	default:
		t, err := parseFormat(format)
		if err != nil {
			return err
		}
		return executeLines(c.App.Writer, t, []versionInfo{v})
	}
}
