package commands

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestNormalise(t *testing.T) {
	tests := []struct {
		name     string
		verb     string
		in       string
		flags    string
		operands string
		err      string
	}{
		{name: "bundle", verb: "run", in: "-itd img sh", flags: "--interactive=true --tty=true --detach=true", operands: "img sh"},
		{name: "stops at the image", verb: "run", in: "img ls -l --all", operands: "img ls -l --all"},
		{name: "value in the same word", verb: "run", in: "-p80:80 -eA=1,2 img", flags: "--publish=80:80 --env=A=1,2", operands: "img"},
		{name: "value after equals", verb: "run", in: "-p=80:80 --env=X img", flags: "--publish=80:80 --env=X", operands: "img"},
		{name: "bundle with value", verb: "run", in: "-itp 80:80 img", flags: "--interactive=true --tty=true --publish=80:80", operands: "img"},
		{name: "h is hostname", verb: "run", in: "-h box img", flags: "--hostname=box", operands: "img"},
		{name: "h is help elsewhere", verb: "ps", in: "-ah", err: "help"},
		{name: "help", verb: "run", in: "--help", err: "help"},
		{name: "help of the payload", verb: "run", in: "img --help", operands: "img --help"},
		{name: "value begins with a dash", verb: "run", in: "--pids-limit -1 --name -- img", flags: "--pids-limit=-1 --name=--", operands: "img"},
		{name: "false", verb: "run", in: "--rm=false -i=0 img", flags: "--rm=false --interactive=0", operands: "img"},
		{name: "dashes end flags", verb: "run", in: "--rm -- -img -x", flags: "--rm=true", operands: "-img -x"},
		{name: "dashes of the payload", verb: "run", in: "img -- x", operands: "img -- x"},
		{name: "interspersed", verb: "logs", in: "web -f -n 5", flags: "--follow=true --tail=5", operands: "web"},
		{name: "interspersed dashes", verb: "rm", in: "a -f -- -v", flags: "--force=true", operands: "a -v"},
		{name: "lone dash is an operand", verb: "rm", in: "-", operands: "-"},
		{name: "unknown", verb: "run", in: "--nope img", err: "unknown flag: --nope"},
		{name: "unknown letter", verb: "run", in: "-iy img", err: "unknown shorthand flag: 'y' in -iy"},
		{name: "no value", verb: "run", in: "--name", err: "flag needs an argument: --name"},
		{name: "no value of a letter", verb: "run", in: "-ie", err: "flag needs an argument: 'e' in -ie"},
		{name: "three dashes", verb: "run", in: "---rm", err: "bad flag syntax: ---rm"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, _ := resolve(allVerbs(), []string{tt.verb})
			flags, operands, err := normalise(strings.Fields(tt.in), v.make().Flags, !v.stops)
			if got := errorText(err); got != tt.err {
				t.Fatalf("error %q, want %q", got, tt.err)
			}
			if err != nil {
				return
			}
			if got := strings.Join(flags, " "); got != tt.flags {
				t.Errorf("flags %q, want %q", got, tt.flags)
			}
			if got := strings.Join(operands, " "); got != tt.operands {
				t.Errorf("operands %q, want %q", got, tt.operands)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzNormalise: whatever is typed, the flag package accepts the words that come out as flags (but for bad values), and nothing is lost.
func FuzzNormalise(f *testing.F) {
	f.Add("-itd\x00--name\x00x\x00img\x00-l", true)
	f.Add("-p80:80\x00--\x00--rm", false)
	f.Add("-=\x00--=\x00-\xff", true)
	f.Fuzz(func(t *testing.T, text string, interspersed bool) {
		flags := runFlags()
		words, operands, err := normalise(strings.Split(text, "\x00"), flags, interspersed)
		if err != nil {
			return
		}
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.SetOutput(&strings.Builder{})
		for _, o := range flags {
			if err := o.Apply(set); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Parse(append(append(slices.Clone(words), "--"), operands...)); err != nil {
			if !strings.HasPrefix(err.Error(), "invalid") {
				t.Fatalf("%q became %q: %v", text, words, err)
			}
			return
		}
		if !slices.Equal(set.Args(), operands) && len(operands) > 0 {
			t.Fatalf("operands %q, want %q", set.Args(), operands)
		}
	})
}

func TestEveryShortFlagIsUnique(t *testing.T) {
	for _, v := range allVerbs() {
		if v.make == nil {
			continue
		}
		seen := map[string]bool{}
		for _, f := range v.make().Flags {
			o := f.(option)
			for _, n := range []string{o.name, o.short} {
				if n != "" && seen[n] {
					t.Errorf("%s: two flags %s", v.name(), n)
				}
				seen[n] = true
			}
		}
	}
}

func TestResolve(t *testing.T) {
	verbs := allVerbs()
	tests := []struct{ in, name, rest string }{
		{"container ls -a", "ps", "-a"},
		{"ps -a", "ps", "-a"},
		{"image rm x", "rmi", "x"},
		{"image ls", "images", ""},
		{"system info", "info", ""},
		{"volume rm a b", "volume rm", "a b"},
		{"container frob", "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		v, rest := resolve(verbs, strings.Fields(tt.in))
		if v.name() != tt.name || strings.Join(rest, " ") != tt.rest {
			t.Errorf("%q: %q %q", tt.in, v.name(), rest)
		}
	}
	if near := nearest(verbs, "iamges"); near != "images" {
		t.Errorf("nearest to iamges is %q", near)
	}
}

func TestHelpIsAnErrorOfItsOwn(t *testing.T) {
	_, _, err := normalise([]string{"-h"}, []cli.Flag{}, true)
	if !errors.Is(err, errHelp) {
		t.Fatal(err)
	}
}
