package commands

import (
	"flag"
	"strconv"

	"github.com/urfave/cli/v2"
)

// option is a flag as this program describes it: a line in a table. urfave/cli sees one canonical name; the short
// one is resolved by normalise, which has to know it anyway.
type option struct {
	name  string
	short string // one letter, or ""
	kind  string // as help shows it; "" takes no value
	usage string
	def   string // the default, where there is one to show
}

// kinds whose values are collected instead of replaced.
func collects(kind string) bool {
	switch kind {
	case "list", "map", "filter", "mount", "ulimit", "network":
		return true
	}
	return false
}

// String, Apply, Names and IsSet make an option a cli.Flag.
func (o option) String() string { return "--" + o.name }

// Apply declares the option in a flag set.
func (o option) Apply(set *flag.FlagSet) error {
	switch {
	case o.kind == "":
		b := boolean(o.def == "true")
		set.Var(&b, o.name, o.usage)
	case collects(o.kind):
		set.Var(new(list), o.name, o.usage)
	default:
		set.Var(&word{kind: o.kind, text: o.def}, o.name, o.usage)
	}
	return nil
}

// Names is the canonical name alone.
func (o option) Names() []string { return []string{o.name} }

// IsSet is urfave's question for values from the environment, of which there are none.
func (o option) IsSet() bool { return false }

// TakesValue is what normalise asks.
func (o option) TakesValue() bool { return o.kind != "" }

// Short is the one-letter name.
func (o option) Short() string { return o.short }

// boolean, list and word are the values of options. A list never splits its words: -e A=1,2 is one variable.
type (
	boolean bool
	list    []string
	word    struct{ kind, text string }
)

func (b *boolean) IsBoolFlag() bool { return true }
func (b *boolean) String() string   { return strconv.FormatBool(bool(*b)) }
func (b *boolean) Set(s string) error {
	v, err := strconv.ParseBool(s)
	*b = boolean(v)
	return err
}

func (l *list) String() string     { return "" }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func (w *word) String() string { return w.text }
func (w *word) Set(s string) (err error) {
	switch w.kind {
	case "int":
		_, err = strconv.ParseInt(s, 10, 64)
	case "uint16":
		_, err = strconv.ParseUint(s, 10, 16)
	}
	w.text = s
	return err
}

// listOf returns the values of a list option in the order they were given.
func listOf(c *cli.Context, name string) []string {
	if l, ok := c.Generic(name).(*list); ok {
		return *l
	}
	return nil
}
