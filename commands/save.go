//go:build !front

package commands

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func saveCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"format", "", "string", "Format of the archive: docker-archive or oci-archive", "docker-archive"},
		option{"multi-image-archive", "m", "", "Accepted for compatibility: several images can always be saved together", ""},
		option{"output", "o", "string", "Write to a file, instead of standard output", ""},
		option{"quiet", "q", "", "Suppress the progress", ""},
	}
	cmd.Before = operands(cmd, 1, -1)
	cmd.Action = func(c *cli.Context) error {
		path, out := c.String("output"), streamsOf(c).Out
		if path == "" && isTerminal(out) {
			return &usageError{text: "cannot save to a terminal: name a file with -o, or redirect standard output", verb: "save", code: exitFailed}
		}
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			tell, end := progress(streamsOf(c).Err, forms{"Saving", "Saved"}, c.Bool("quiet") || !isTerminal(streamsOf(c).Err))
			defer end()
			write := func(w io.Writer) error {
				return pull.Save(c.Context, s, w, c.Args().Slice(), pull.SaveOptions{Format: c.String("format"), Progress: tell})
			}
			if path == "" {
				return write(out)
			}
			return atomically(path, 0o600, write) // what is in an image may be nobody else's business
		})
	}
}

// atomically writes a file that is there whole or not at all. What is no regular file, such as /dev/null or a pipe, is written to directly.
func atomically(path string, mode os.FileMode, write func(io.Writer) error) (err error) {
	if st, statErr := os.Stat(path); statErr == nil && !st.Mode().IsRegular() {
		if st.IsDir() {
			return fmt.Errorf("cannot write %s: it is a directory", path)
		}
		f, openErr := os.OpenFile(path, os.O_WRONLY, 0)
		if openErr != nil {
			return plainPath("write", path, openErr)
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return plainPath("write", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err = write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = errors.Join(f.Chmod(mode), f.Close()); err != nil {
		return plainPath("write", path, err)
	}
	return os.Rename(f.Name(), path)
}

// writeFile is atomically for a few bytes.
func writeFile(path string, data []byte) error {
	return atomically(path, 0o644, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// plainPath leaves the temporary name out of an error.
func plainPath(doing, path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("cannot %s %s: %w", doing, path, err)
}
