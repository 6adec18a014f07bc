//go:build !front

package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/ops"
	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func buildCommand(cmd *cli.Command) {
	cmd.Flags = append(buildFlags(), accessFlags()...)
	cmd.Before = operands(cmd, 0, 1)
	cmd.Action = func(c *cli.Context) error {
		if c.NArg() == 0 {
			return &usageError{text: "'skiff build' requires 1 argument", verb: "build", usage: "skiff build [OPTIONS] PATH | URL | -", code: exitFailed}
		}
		if err := checkBuildFlags(c); err != nil {
			return err
		}
		list, err := destinations(c)
		if err != nil {
			return err
		}
		o, err := buildOptions(c)
		if err != nil {
			return misused{err}
		}
		for _, d := range list {
			o.Rewrite = o.Rewrite || d.rewrite
		}
		if err := buildCall(c, &o); err != nil {
			return err
		}
		shell, err := wantsShell(c)
		if err != nil {
			return err
		}
		if shell {
			o.Failed = failedShell(c)
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			// This program is the switch's too; it was executed through a descriptor and has no other name.
			if (&config.Config{Network: o.Network}).Bridged() {
				if _, err := netns.Open(records.Data, records.Run).Get(o.Network); err != nil {
					return &usageError{text: fmt.Sprintf("cannot use --network %s: %v", o.Network, err), verb: "build", code: exitOurs}
				}
			}
			o.Switch = ops.Switch{Data: records.Data, Run: records.Run, Engine: "/proc/self/exe"}
			x := contexts{o: &o, in: streamsOf(c).In, scratch: s.Scratch()}
			if err := x.find(c.Context, c.Args().First(), c.String("file"), listOf(c, "build-context")); err != nil {
				return err
			}
			err := build.Build(c.Context, s, o, func(b *build.Built) error { return writeBuilt(c, s, records, b, list) })
			if err != nil && !shell { // which shows it before it opens
				build.PrintSource(streamsOf(c).Err, err)
			}
			return err
		})
	}
}

// buildCall asks the frontend for something else than a build.
func buildCall(c *cli.Context, o *build.Options) error {
	call, _, _ := strings.Cut(c.String("call"), ",")
	if c.Bool("check") {
		call = "check"
	}
	request, ok := map[string]string{"": "", "build": "", "check": "frontend.lint", "lint": "frontend.lint", "outline": "frontend.outline", "targets": "frontend.targets"}[call]
	if !ok {
		return &usageError{text: fmt.Sprintf("invalid argument %q for \"--call\" flag: must be build, check, outline or targets", call), verb: "build", code: exitOurs}
	}
	if request != "" {
		o.Frontend["requestid"], o.Progress = request, "quiet"
	}
	return nil
}
