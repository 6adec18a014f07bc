package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// verb is a line of the table of verbs: what is known of one before its flags are built, which is done for the chosen one only.
type verb struct {
	names  string // "ps|container ls|container list": the first is the name it has in messages
	usage  string
	make   func() *cli.Command // nil: the engine's, see engine_*.go
	least  int                 // operands it needs
	most   int                 // and takes; -1 any number
	stops  bool                // flags end at the first operand: what follows belongs to the container
	inside bool                // acts inside the user namespace
	hidden bool
}

// group is a word before the verb, such as container in "container ls".
type group struct{ name, what string }

func groups() []group {
	return []group{
		{"builder", "builds"},
		{"buildx", "builds"},
		{"container", "containers"},
		{"image", "images"},
		{"network", "networks"},
		{"system", "skiff"},
		{"volume", "volumes"},
	}
}

// allVerbs lists every verb, the engine's among them, in the order of help.
func allVerbs() []verb {
	verbs := []verb{
		{names: "run|container run", usage: "Create and run a new container from an image", make: runCommand, least: 1, most: -1, stops: true},
		{names: "exec|container exec", usage: "Execute a command in a running container", make: execCommand, least: 2, most: -1, stops: true},
		{names: "ps|container ls|container list|container ps", usage: "List containers", make: psCommand},
		{names: "images|image ls|image list", usage: "List images", make: imagesCommand, most: 1},
		{names: "attach|container attach", usage: "Attach local standard input, output, and error streams to a running container", make: attachCommand, least: 1, most: 1},
		{names: "completion", usage: "Print a completion script for bash, zsh or fish", make: completionCommand, least: 1, most: 1},
		{names: "create|container create", usage: "Create a new container", make: createCommand, least: 1, most: -1, stops: true},
		{names: "diff|container diff", usage: "Inspect changes to files or directories on a container's filesystem", make: diffCommand, least: 1, most: 1, inside: true},
		{names: "events|system events", usage: "Get events as they happen", make: eventsCommand},
		{names: "history|image history", usage: "Show the history of an image", make: historyCommand, least: 1, most: 1},
		{names: "info|system info", usage: "Display system-wide information", make: infoCommand},
		{names: "inspect", usage: "Return low-level information on containers, images and volumes", make: inspectCommand, least: 1, most: -1},
		{names: "kill|container kill", usage: "Kill one or more running containers", make: killCommand, least: 1, most: -1},
		{names: "logs|container logs", usage: "Fetch the logs of a container", make: logsCommand, least: 1, most: 1},
		{names: "pause|container pause", usage: "Pause all processes within one or more containers", make: pauseCommand, least: 1, most: -1, inside: true},
		{names: "update|container update", usage: "Update configuration of one or more containers", make: updateCommand, least: 1, most: -1},
		{names: "port|container port", usage: "List port mappings or a specific mapping for the container", make: portCommand, least: 1, most: 2},
		{names: "rename|container rename", usage: "Rename a container", make: renameCommand, least: 2, most: 2},
		{names: "restart|container restart", usage: "Restart one or more containers", make: restartCommand, least: 1, most: -1},
		{names: "rm|container rm|container remove", usage: "Remove one or more containers", make: rmCommand, least: 1, most: -1},
		{names: "start|container start", usage: "Start one or more stopped containers", make: startCommand, least: 1, most: -1},
		{names: "stats|container stats", usage: "Display a live stream of container(s) resource usage statistics", make: statsCommand, most: -1, inside: true},
		{names: "stop|container stop", usage: "Stop one or more running containers", make: stopCommand, least: 1, most: -1},
		{names: "top|container top", usage: "Display the running processes of a container", make: topCommand, least: 1, most: -1, stops: true, inside: true},
		{names: "unpause|container unpause", usage: "Unpause all processes within one or more containers", make: unpauseCommand, least: 1, most: -1, inside: true},
		{names: "unshare", usage: "Run a command inside the user namespace of skiff", make: unshareCommand, most: -1, stops: true},
		{names: "version", usage: "Show the version information", make: versionCommand},
		{names: "wait|container wait", usage: "Block until one or more containers stop, then print their exit codes", make: waitCommand, least: 1, most: -1},
		{names: "container inspect", usage: "Display detailed information on one or more containers", make: containerInspectCommand, least: 1, most: -1},
		{names: "container prune", usage: "Remove all stopped containers", make: containerPruneCommand, inside: true},
		{names: "image inspect", usage: "Display detailed information on one or more images", make: imageInspectCommand, least: 1, most: -1},
		{names: "network connect", usage: "Connect a container to a network", make: networkConnectCommand, least: 2, most: 2},
		{names: "network disconnect", usage: "Disconnect a container from a network", make: networkDisconnectCommand, least: 2, most: 2},
		{names: "network create", usage: "Create a network", make: networkCreateCommand, least: 1, most: 1},
		{names: "network inspect", usage: "Display detailed information on one or more networks", make: networkInspectCommand, least: 1, most: -1},
		{names: "network ls|network list", usage: "List networks", make: networkLsCommand},
		{names: "network prune", usage: "Remove all unused networks", make: networkPruneCommand},
		{names: "network rm|network remove", usage: "Remove one or more networks", make: networkRmCommand, least: 1, most: -1},
		{names: "volume create", usage: "Create a volume", make: volumeCreateCommand, most: 1},
		{names: "volume inspect", usage: "Display detailed information on one or more volumes", make: volumeInspectCommand, least: 1, most: -1},
		{names: "volume ls|volume list", usage: "List volumes", make: volumeLsCommand},
		{names: "volume prune", usage: "Remove unused local volumes", make: volumePruneCommand, inside: true},
		{names: "volume rm|volume remove", usage: "Remove one or more volumes", make: volumeRmCommand, least: 1, most: -1, inside: true},
		{names: "__complete", usage: "Words that may come next", make: completeCommand, most: -1, stops: true, hidden: true},
	}
	for _, cmd := range engineCommands() {
		verbs = append(verbs, engineVerb(cmd))
	}
	return verbs
}

// engineVerb is the table's line of an engine command: those that move images are known under image as well.
func engineVerb(cmd *cli.Command) verb {
	v := verb{names: cmd.Name, usage: cmd.Usage, most: -1, hidden: cmd.Hidden}
	switch {
	case cmd.Name == "cp", cmd.Name == "export":
		v.names += "|container " + cmd.Name
	case cmd.Name == "rmi":
		v.names = "rmi|image rm|image remove"
	case cmd.Name == "commit":
		v.names = "commit|container commit"
	case cmd.Name == "build":
		v.names = "build|image build|buildx build|builder build"
	case cmd.Name == "builder du", cmd.Name == "builder prune":
		v.names += "|" + strings.Replace(cmd.Name, "builder", "buildx", 1)
	case cmd.Name == "login", cmd.Name == "logout", cmd.Name == "search", strings.Contains(cmd.Name, " "):
	default:
		v.names += "|image " + cmd.Name
	}
	return v
}

// name is the verb's name in messages.
func (v verb) name() string {
	name, _, _ := strings.Cut(v.names, "|")
	return name
}

// resolve finds the verb that words begin with and returns it with the words after it; no verb has empty names.
func resolve(verbs []verb, words []string) (verb, []string) {
	if len(words) == 0 {
		return verb{}, nil
	}
	one, two := words[0], ""
	if len(words) > 1 {
		two = words[0] + " " + words[1]
	}
	for _, v := range verbs {
		for name := range strings.SplitSeq(v.names, "|") {
			switch name {
			case two:
				return v, words[2:]
			case one:
				return v, words[1:]
			}
		}
	}
	return verb{}, nil
}

// count says what is wrong with a number of operands, or "".
func (v verb) count(n int) string {
	plural := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return fmt.Sprintf("%d arguments", n)
	}
	switch {
	case n > v.most && v.most == 0:
		return fmt.Sprintf("'skiff %s' accepts no arguments", v.name())
	case v.least == v.most && n != v.least:
		return fmt.Sprintf("'skiff %s' requires %s", v.name(), plural(v.least))
	case n < v.least:
		return fmt.Sprintf("'skiff %s' requires at least %s", v.name(), plural(v.least))
	case v.most >= 0 && n > v.most:
		return fmt.Sprintf("'skiff %s' requires at most %s", v.name(), plural(v.most))
	}
	return ""
}

// noVerb answers words that name no verb: help for none, a group's help for a group's name, and an error with a suggestion.
func (p *program) noVerb(verbs []verb, words []string) error {
	if len(words) == 0 || words[0] == "help" && len(words) == 1 {
		printRootHelp(p.streams.Out, verbs, globalFlags())
		return nil
	}
	if words[0] == "help" {
		return p.runAgain(append(words[1:], "--help"))
	}
	if why := refusedVerb(words); why != "" {
		return fmt.Errorf("cannot run skiff %s: %s", strings.Join(words[:min(len(words), 2)], " "), why)
	}
	typed, prefix := words[0], ""
	for _, g := range groups() {
		if words[0] != g.name {
			continue
		}
		if len(words) == 1 || words[1] == "--help" || words[1] == "-h" || words[1] == "help" {
			printGroupHelp(p.streams.Out, verbs, g)
			return nil
		}
		prefix, typed = g.name+" ", words[0]+" "+words[1]
	}
	err := &usageError{text: "unknown command: skiff " + typed, verb: strings.TrimSpace(prefix), code: exitFailed}
	if near := nearest(verbs, typed); near != "" {
		err.text += "\n\nDid you mean 'skiff " + near + "'?"
	}
	return err
}

// nearest is the verb whose name is at most two edits away from what was typed, or "".
func nearest(verbs []verb, typed string) string {
	best, at := "", 3
	for _, v := range verbs {
		for name := range strings.SplitSeq(v.names, "|") {
			if d := distance(typed, name); d < at && d < len(name) && !v.hidden {
				best, at = name, d
			}
		}
	}
	return best
}

// distance counts the insertions, deletions, substitutions and swaps of neighbours between two words.
func distance(a, b string) int {
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
