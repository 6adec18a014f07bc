package commands

import (
	"context"
	"os"
	"testing"

	"github.com/urfave/cli/v2"
)

// BenchmarkRunLine is what reading a command line adds to every start.
func BenchmarkRunLine(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	b.ReportAllocs()
	for b.Loop() {
		v, rest := resolve(allVerbs(), []string{"run", "--rm", "--network", "none", "-e", "A=b", "img", "true"})
		cmd := v.make()
		cmd.Action = func(c *cli.Context) error {
			_, err := configOf(c)
			return err
		}
		p := &program{streams: Streams{null, null, null}}
		if err := p.dispatch(context.Background(), v, cmd, rest); err != nil {
			b.Fatal(err)
		}
	}
}
