package commands

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// printHelp shows a command's help in Docker's layout.
func printHelp(w io.Writer, v verb, cmd *cli.Command) {
	fmt.Fprintf(w, "Usage:  %s\n\n%s\n", usageLine(v, cmd), cmd.Usage)
	if cmd.Description != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Description)
	}
	if names := strings.Split(v.names, "|"); len(names) > 1 {
		fmt.Fprintf(w, "\nAliases:\n  skiff %s\n", strings.Join(names, ", skiff "))
	}
	if len(cmd.Flags) > 0 {
		fmt.Fprintln(w, "\nOptions:")
		printFlags(w, cmd.Flags)
	}
}

// usageLine is "skiff run [OPTIONS] IMAGE [COMMAND] [ARG...]".
func usageLine(v verb, cmd *cli.Command) string {
	line := "skiff " + v.name()
	if len(cmd.Flags) > 0 {
		line += " [OPTIONS]"
	}
	return strings.TrimSpace(line + " " + cmd.ArgsUsage)
}

// printFlags lists flags with their usage in a column that wraps at 80.
func printFlags(w io.Writer, flags []cli.Flag) {
	wide := 0
	heads := make([]string, len(flags))
	for i, f := range flags {
		heads[i] = flagHead(f)
		wide = max(wide, len(heads[i]))
	}
	for i, f := range flags {
		if heads[i] == "" {
			continue
		}
		for n, line := range wrap(flagUsage(f), max(78-wide-3, 30)) {
			head := heads[i]
			if n > 0 {
				head = ""
			}
			fmt.Fprintf(w, "%-*s   %s\n", wide, head, line)
		}
	}
}

// flagHead is "  -a, --attach list".
func flagHead(f cli.Flag) string {
	o, ok := f.(option)
	if !ok {
		return foreignHead(f)
	}
	head := "      --"
	if o.short != "" {
		head = "  -" + o.short + ", --"
	}
	return strings.TrimRight(head+o.name+" "+o.kind, " ")
}

// foreignHead is flagHead of a flag of urfave's own types.
func foreignHead(f cli.Flag) string {
	if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
		return ""
	}
	head := "      --" + f.Names()[0]
	for _, n := range f.Names()[1:] {
		if len(n) == 1 {
			head = "  -" + n + ", --" + f.Names()[0]
		}
	}
	switch f.(type) {
	case *cli.BoolFlag:
	case *cli.StringSliceFlag:
		head += " list"
	case *cli.IntFlag, *cli.UintFlag, *cli.Int64Flag:
		head += " int"
	default:
		head += " string"
	}
	return head
}

func flagUsage(f cli.Flag) string {
	if o, ok := f.(option); ok {
		if o.def != "" && o.def != "-1" {
			return o.usage + " (default " + o.def + ")"
		}
		return o.usage
	}
	if d, ok := f.(cli.DocGenerationFlag); ok {
		return d.GetUsage()
	}
	return ""
}

// wrap breaks text into lines of at most width columns, at spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines = append(lines, line)
			line = w
			continue
		}
		line = strings.TrimSpace(line + " " + w)
	}
	return append(lines, line)
}

// printRootHelp lists all verbs, and printGroupHelp those of one group ("container").
func printRootHelp(w io.Writer, verbs []verb, flags []cli.Flag) {
	fmt.Fprint(w, "Usage:  skiff [OPTIONS] COMMAND\n\nRun containers without a daemon and without root\n")
	fmt.Fprintln(w, "\nCommands:")
	for _, v := range verbs {
		if !v.hidden && !strings.Contains(v.name(), " ") {
			fmt.Fprintf(w, "  %-11s %s\n", v.name(), v.usage)
		}
	}
	fmt.Fprintln(w, "\nManagement Commands:")
	for _, g := range groups() {
		fmt.Fprintf(w, "  %-11s Manage %s\n", g.name, g.what)
	}
	fmt.Fprintln(w, "\nGlobal Options:")
	printFlags(w, flags)
	fmt.Fprint(w, "\nExit codes: a payload's own; 128+n when signal n ended it; 125 skiff failed; 126 the payload\n"+
		"cannot be executed; 127 it was not found; 1 another command failed.\n"+
		"\nRun 'skiff COMMAND --help' for more information on a command.\n")
}

func printGroupHelp(w io.Writer, verbs []verb, g group) {
	fmt.Fprintf(w, "Usage:  skiff %s COMMAND\n\nManage %s\n\nCommands:\n", g.name, g.what)
	for _, v := range verbs {
		for name := range strings.SplitSeq(v.names, "|") {
			if rest, ok := strings.CutPrefix(name, g.name+" "); ok {
				fmt.Fprintf(w, "  %-11s %s\n", rest, v.usage)
				break
			}
		}
	}
	fmt.Fprintf(w, "\nRun 'skiff %s COMMAND --help' for more information on a command.\n", g.name)
}
