package commands

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// errHelp says that the words ask for help instead of an action.
var errHelp = errors.New("help")

// normalise sorts what a user typed after a command's name into flags, each in the one form --name=value that the flag
// package reads without guessing, and operands. The grammar is Docker's (that is, POSIX with GNU's long options): short
// flags bundle (-itd) and carry values (-p80:80, -n=3), a value may begin with a dash (--pids-limit -1), "--" ends the flags,
// and flags may follow operands unless interspersed is false (run, create, exec: the first operand begins somebody else's words).
func normalise(words []string, flags []cli.Flag, interspersed bool) (flagWords, operands []string, err error) {
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		switch {
		case w == "--":
			return flagWords, append(operands, words...), nil
		case len(w) < 2 || w[0] != '-':
			operands = append(operands, w)
			if !interspersed {
				return flagWords, append(operands, words...), nil
			}
		case w[1] == '-':
			flagWords, words, err = longFlag(flagWords, w[2:], words, flags)
		default:
			flagWords, words, err = shortFlags(flagWords, w[1:], words, flags)
		}
		if err != nil {
			return flagWords, operands, err
		}
	}
	return flagWords, operands, nil
}

// longFlag reads --name, --name=value or --name value; w is what follows the dashes.
func longFlag(out []string, w string, rest []string, flags []cli.Flag) ([]string, []string, error) {
	name, value, given := strings.Cut(w, "=")
	f := findFlag(flags, name)
	switch {
	case name == "" || name[0] == '-':
		return out, rest, fmt.Errorf("bad flag syntax: --%s", w)
	case f == nil && name == "help":
		return out, rest, errHelp
	case f == nil:
		return out, rest, unknownFlag(name)
	case given:
	case !takesValue(f):
		value = "true"
	case len(rest) == 0:
		return out, rest, fmt.Errorf("flag needs an argument: --%s", name)
	default:
		value, rest = rest[0], rest[1:]
	}
	return append(out, "--"+f.Names()[0]+"="+value), rest, nil
}

// shortFlags reads a bundle of one-letter flags, of which the last may have a value: in the same word or the next.
func shortFlags(out []string, bundle string, rest []string, flags []cli.Flag) ([]string, []string, error) {
	for i, letter := range bundle {
		if letter == '\uFFFD' { // not UTF-8, and then one byte of the bundle
			return out, rest, fmt.Errorf("bad flag syntax: -%q", bundle)
		}
		f := findFlag(flags, string(letter))
		after := bundle[i+len(string(letter)):]
		switch {
		case f == nil && letter == 'h':
			return out, rest, errHelp
		case f == nil:
			return out, rest, fmt.Errorf("unknown shorthand flag: '%c' in -%s", letter, bundle)
		}
		name := f.Names()[0]
		value, given := strings.CutPrefix(after, "=")
		switch {
		case given:
			return append(out, "--"+name+"="+value), rest, nil
		case !takesValue(f):
			out = append(out, "--"+name+"=true")
		case after != "":
			return append(out, "--"+name+"="+after), rest, nil
		case len(rest) == 0:
			return out, rest, fmt.Errorf("flag needs an argument: '%c' in -%s", letter, bundle)
		default:
			return append(out, "--"+name+"="+rest[0]), rest[1:], nil
		}
	}
	return out, rest, nil
}

// findFlag looks a flag up by its long name or its letter.
func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if o, ok := f.(option); ok {
			if name != "" && (o.name == name || o.short == name) {
				return f
			}
			continue
		}
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	v, ok := f.(interface{ TakesValue() bool })
	return ok && v.TakesValue()
}
