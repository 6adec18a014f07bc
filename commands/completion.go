package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Usage: "Print a completion script for bash, zsh or fish", ArgsUsage: "bash|zsh|fish",
		Description: "For example: source <(skiff completion bash)",
		Action: func(c *cli.Context) error {
			shell := c.Args().First()
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[shell]
			if !ok {
				return fmt.Errorf("cannot complete for %q: the shells are bash, zsh and fish", shell)
			}
			_, err := fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}

// The scripts ask the program itself, so that they never have to be renewed. A candidate may have a tab and a description behind it.
const (
	bashCompletion = `_skiff() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$(skiff __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)" -- "${COMP_WORDS[COMP_CWORD]}"))
	[ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _skiff skiff
`
	zshCompletion = `#compdef skiff
_skiff() {
	local -a candidates
	candidates=("${(@f)$(skiff __complete "${(@)words[2,$CURRENT]}" 2>/dev/null | cut -f1)}")
	if [[ -n "${candidates[1]}" ]]; then compadd -a candidates; else _files; fi
}
compdef _skiff skiff
`
	fishCompletion = `complete -c skiff -f -a '(skiff __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`
)

func completeCommand() *cli.Command { return &cli.Command{Action: complete} }

// complete prints what may stand for the last of its words, the one being typed.
func complete(c *cli.Context) error {
	words := c.Args().Slice()
	typed := ""
	if len(words) > 0 {
		typed, words = words[len(words)-1], words[:len(words)-1]
	}
	_, words, err := normalise(words, globalFlags(), false)
	if err != nil {
		return nil //nolint:nilerr // nothing can be said about words that make no sense
	}
	for _, w := range candidates(c, words, typed) {
		if strings.HasPrefix(w, typed) {
			fmt.Fprintln(c.App.Writer, w)
		}
	}
	return nil
}

// candidates lists words for the place after words; typed tells flags from operands.
func candidates(c *cli.Context, words []string, typed string) []string {
	verbs := allVerbs()
	v, rest := resolve(verbs, words)
	if v.names == "" {
		if strings.HasPrefix(typed, "-") {
			return flagNames(globalFlags())
		}
		return verbNames(verbs, strings.Join(words, " "))
	}
	cmd := &cli.Command{}
	if v.make != nil {
		cmd = v.make()
	} else if i := slices.IndexFunc(engineCommands(), func(e *cli.Command) bool { return e.Name == v.name() }); i >= 0 {
		cmd = engineCommands()[i]
	}
	if o := awaiting(rest, cmd.Flags, v.stops); o != nil {
		return values(c, o.name)
	}
	if strings.HasPrefix(typed, "-") {
		return flagNames(cmd.Flags)
	}
	_, operands, _ := normalise(rest, cmd.Flags, !v.stops)
	if v.stops && len(operands) > 0 || v.most >= 0 && len(operands) >= v.most {
		return nil
	}
	return objects(c, v.name())
}

// awaiting is the flag at the end of words whose value comes next; nil when there is none.
func awaiting(words []string, flags []cli.Flag, stops bool) *option {
	if len(words) == 0 {
		return nil
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	if _, operands, err := normalise(before, flags, !stops); err != nil || stops && len(operands) > 0 || slices.Contains(before, "--") {
		return nil // it is somebody else's word, or itself a value
	}
	name, long := strings.CutPrefix(last, "--")
	if !long {
		if len(last) < 2 || last[0] != '-' {
			return nil
		}
		name = last[len(last)-1:] // of a bundle the last letter has the value
	}
	o, ok := findFlag(flags, name).(option)
	if !ok || !o.TakesValue() {
		return nil
	}
	return &o
}

// values are the words that a flag's value may be; none where there is no list of them, which leaves the shell to its files.
func values(c *cli.Context, flag string) (names []string) {
	switch flag {
	case "network", "net":
		return append(networkList(c), "none", "host")
	case "volumes-from", "link":
		return objects(c, "start")
	case "pull":
		return []string{"always", "missing", "never"}
	case "restart":
		return []string{"no", "always", "on-failure", "unless-stopped"}
	case "log-driver":
		return []string{"local", "json-file", "none"}
	case "progress":
		return []string{"auto", "plain", "tty", "quiet", "rawjson", "none"}
	case "type":
		return []string{"container", "image", "network", "volume"}
	}
	return nil
}

// networkList lists the networks that containers can be connected to.
func networkList(c *cli.Context) (names []string) {
	networks, _, err := networksOf(c)
	if err != nil {
		return nil
	}
	list, _ := networks.List() // what can be read of them
	for _, n := range list {
		if !slices.Contains([]string{"host", "none"}, n.Name) {
			names = append(names, n.Name)
		}
	}
	return names
}

// verbNames lists the words that may follow a group, or begin a command line.
func verbNames(verbs []verb, group string) (names []string) {
	if group == "" {
		for _, g := range groups() {
			names = append(names, g.name+"\tManage "+g.what)
		}
	} else {
		group += " "
	}
	for _, v := range verbs {
		for name := range strings.SplitSeq(v.names, "|") {
			rest, ok := strings.CutPrefix(name, group)
			if ok && !strings.Contains(rest, " ") && !v.hidden {
				names = append(names, rest+"\t"+v.usage)
			}
		}
	}
	return names
}

func flagNames(flags []cli.Flag) []string {
	names := []string{"--help"}
	for _, f := range flags {
		name := "--" + f.Names()[0]
		if o, ok := f.(option); ok {
			name += "\t" + o.usage
		}
		names = append(names, name)
	}
	return names
}

// objects lists what a verb works on: names of containers, images or volumes.
func objects(c *cli.Context, verb string) (names []string) {
	h, err := hostOf(c)
	if err != nil {
		return nil
	}
	_, second, grouped := strings.Cut(verb, " ")
	switch {
	case verb == "completion":
		return []string{"bash", "zsh", "fish"}
	case strings.HasPrefix(verb, "volume ") && second != "create":
		list, _ := h.Volumes.List()
		for _, v := range list {
			names = append(names, v.Name)
		}
	case strings.HasPrefix(verb, "network ") && second != "create":
		return networkList(c)
	case slices.Contains([]string{"run", "create", "history", "images", "pull", "push", "rmi", "save", "tag", "image inspect"}, verb):
		byID, _ := h.Images.Names()
		for _, n := range byID {
			names = append(names, familiar(n)...)
		}
		slices.Sort(names)
	case !grouped || verb == "container inspect":
		list, _ := h.Records.List()
		for _, t := range list {
			names = append(names, t.Name)
		}
	}
	return names
}
