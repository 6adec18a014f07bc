//go:build !front

package commands

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/archive"
)

func exportCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{option{"output", "o", "string", "Write to a file, instead of standard output", ""}}
	cmd.Before = operands(cmd, 1, 1)
	cmd.Action = func(c *cli.Context) error {
		name, out := c.String("output"), streamsOf(c).Out
		if name == "" && isTerminal(out) {
			return &usageError{text: "cannot export to a terminal: name a file with -o, or redirect standard output", verb: "export", code: exitFailed}
		}
		h, err := hostOf(c)
		if err != nil {
			return err
		}
		t, err := h.Find(c.Context, c.Args().First())
		if err != nil {
			return err
		}
		return withRoot(c.Context, h, t, func(root *run.Root) error {
			if name == "" {
				return writeTar(c.Context, out, root.File, ".", true)
			}
			return atomically(name, 0o600, func(f io.Writer) error { return writeTar(c.Context, f, root.File, ".", true) })
		})
	}
}

// writeTar writes a tree as an archive; the tree's own directory is left out when it is called ".".
func writeTar(ctx context.Context, out io.Writer, f *os.File, as string, oneMount bool) error {
	buffered := bufio.NewWriterSize(out, 256<<10)
	w := tar.NewWriter(buffered)
	err := archive.Walk(f, as, oneMount, func(h *tar.Header, content io.Reader) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if h.Name == "./" {
			return nil
		}
		if err := w.WriteHeader(h); err != nil {
			return fmt.Errorf("cannot write %s to the archive: %w", h.Name, err)
		}
		if content == nil {
			return nil
		}
		n, err := io.Copy(w, content)
		if err == nil && n < h.Size {
			err = errors.New("it became shorter meanwhile")
		}
		if err != nil {
			return fmt.Errorf("cannot write %s to the archive: %w", h.Name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(w.Close(), buffered.Flush())
}

// readTar unpacks standard input beneath a directory.
func readTar(c *cli.Context, dir *os.File) (err error) {
	streams := streamsOf(c)
	w := &archive.Writer{Root: dir, Owners: true, Warn: func(text string) { fmt.Fprintln(streams.Err, "skiff: "+text) }}
	defer func() { err = errors.Join(err, w.Close()) }()
	r := tar.NewReader(bufio.NewReaderSize(streams.In, 256<<10))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = context.Cause(c.Context)
		}
		if err != nil {
			return fmt.Errorf("cannot read the archive on standard input: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := w.Put(h, r); err != nil {
			return err
		}
	}
}
