//go:build !front

package commands

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/archive"
	"github.com/skiff-containers/skiff/storage/disk"
)

func cpCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"archive", "a", "", "Archive mode (copy all uid/gid information)", ""},
		option{"follow-link", "L", "", "Always follow symbol link in SRC_PATH", ""},
		option{"quiet", "q", "", "Suppress what was copied; errors are shown", ""},
	}
	cmd.Before = operands(cmd, 2, 2)
	cmd.Action = copyFiles
}

// place is a side of a copy: a path beneath a root, which is a container's or the host's own.
type place struct {
	root      *os.File
	container bool
	path      string // clean and absolute
	slash     bool   // it ended with "/" or "/.": it must be a directory
	contents  bool   // it ended with "/.": what is in the directory, not itself
	word      string // as the user wrote it
}

// copyFiles is cp. Its rules for what goes where are Docker's (docs.docker.com/reference/cli/docker/container/cp).
func copyFiles(c *cli.Context) error {
	from, to := c.Args().Get(0), c.Args().Get(1)
	source, fromPath := splitCopy(from)
	target, toPath := splitCopy(to)
	switch {
	case source != "" && target != "":
		return errors.New("cannot copy between containers: copy to the host first")
	case source == "" && target == "":
		return errors.New("cannot copy: one of the two must be CONTAINER:PATH")
	case fromPath == "" || toPath == "":
		return fmt.Errorf("cannot copy %s to %s: a path is empty", from, to)
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := h.Find(c.Context, source+target)
	if err != nil {
		return err
	}
	return withRoot(c.Context, h, t, func(root *run.Root) error {
		host, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer host.Close()
		if target != "" {
			if t.Config.ReadOnly {
				return fmt.Errorf("cannot copy to container %s: its root is read-only", t.Name)
			}
			return copyIn(c, host, root.File, fromPath, toPath, t.Name)
		}
		return copyOut(c, host, root.File, fromPath, toPath)
	})
}

// withRoot opens a container's root for f.
func withRoot(ctx context.Context, h *run.Host, t run.Container, f func(*run.Root) error) (err error) {
	root, err := h.OpenRoot(ctx, t.Container)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return f(root)
}

// splitCopy tells CONTAINER:PATH from a path of the host, which is absolute, begins with a dot, or has no colon.
func splitCopy(word string) (container, name string) {
	if filepath.IsAbs(word) || strings.HasPrefix(word, ".") {
		return "", word
	}
	if container, name, ok := strings.Cut(word, ":"); ok {
		return container, name
	}
	return "", word
}

// placeOf reads a path of the host or a container.
func placeOf(root *os.File, word string, container bool) (place, error) {
	p := place{root: root, container: container, word: word, path: path.Clean("/" + word)}
	if !container {
		abs, err := filepath.Abs(word)
		if err != nil {
			return p, err
		}
		p.path = abs
	}
	p.contents = word == "." || strings.HasSuffix(word, "/.") || p.path == "/"
	p.slash = p.contents || strings.HasSuffix(word, "/")
	return p, nil
}

func copyOut(c *cli.Context, host, root *os.File, from, to string) error {
	src, err := placeOf(root, from, true)
	if err != nil {
		return err
	}
	if to == "-" {
		out := streamsOf(c).Out
		if isTerminal(out) {
			return errors.New("cannot write an archive to a terminal: redirect standard output")
		}
		f, as, err := src.open(c.Bool("follow-link"))
		if err != nil {
			return err
		}
		defer f.Close()
		return writeTar(c.Context, out, f, as, false)
	}
	dst, err := placeOf(host, to, false)
	if err != nil {
		return err
	}
	return copyTree(c, src, dst, to)
}

func copyIn(c *cli.Context, host, root *os.File, from, to, name string) error {
	dst, err := placeOf(root, to, true)
	if err != nil {
		return err
	}
	if from == "-" {
		dir, err := disk.OpenBeneath(root, dst.path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return fmt.Errorf("cannot unpack an archive at %s:%s: %w", name, to, bareError(err))
		}
		defer dir.Close()
		return readTar(c, dir)
	}
	src, err := placeOf(host, from, false)
	if err != nil {
		return err
	}
	return copyTree(c, src, dst, name+":"+to)
}

// open opens the thing to copy and says what it is called.
func (p place) open(follow bool) (*os.File, string, error) {
	flags := unix.O_PATH
	if p.slash {
		flags |= unix.O_DIRECTORY
	} else if !follow {
		flags |= unix.O_NOFOLLOW
	}
	f, err := disk.OpenBeneath(p.root, p.path, flags, 0)
	if err != nil {
		return nil, "", fmt.Errorf("cannot copy %s: %w", p.word, bareError(err))
	}
	if p.contents {
		return f, ".", nil
	}
	return f, path.Base(p.path), nil
}

// bareError drops the path that an error repeats.
func bareError(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func isDir(f *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// maxLinks is how many links a path may lead through (path_resolution(7)).
const maxLinks = 40

// resolve finds the directory and the name that the path means in the end; dir says that it is a directory, which parent is then.
func (p place) resolve() (parent *os.File, base string, dir, exists bool, err error) {
	at := p.path
	for range maxLinks {
		if f, err := disk.OpenBeneath(p.root, at, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
			return f, ".", true, true, nil
		} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return nil, "", false, false, bareError(err)
		}
		parent, err := disk.OpenBeneath(p.root, path.Dir(at), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, "", false, false, fmt.Errorf("%s: %w", path.Dir(at), bareError(err))
		}
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(parent.Fd()), path.Base(at), buf)
		if err != nil { // no link: EINVAL, or nothing there
			return parent, path.Base(at), false, !errors.Is(err, unix.ENOENT), nil
		}
		parent.Close()
		if link := string(buf[:n]); path.IsAbs(link) {
			at = path.Clean(link)
		} else {
			at = path.Join(path.Dir(at), link)
		}
	}
	return nil, "", false, false, unix.ELOOP
}

// copyTree copies what src is to what dst says.
func copyTree(c *cli.Context, src, dst place, title string) (err error) {
	f, as, err := src.open(c.Bool("follow-link"))
	if err != nil {
		return err
	}
	defer f.Close()
	tree, err := isDir(f)
	if err != nil {
		return err
	}
	fail := func(why error) error { return fmt.Errorf("cannot copy %s to %s: %w", src.word, title, why) }
	parent, base, dir, exists, err := dst.resolve()
	if err != nil {
		return fail(err)
	}
	defer parent.Close()
	switch {
	case !dir && exists && tree:
		return fail(errors.New("cannot copy a directory to a file"))
	case !dir && exists && dst.slash:
		return fail(unix.ENOTDIR)
	case !dir && !exists && dst.slash && !tree:
		return fail(errors.New("the destination directory must exist"))
	case !dir:
		as = base
	}
	streams := streamsOf(c)
	w := &archive.Writer{Root: parent, Owners: c.Bool("archive"), SetID: dst.container, Warn: func(text string) { fmt.Fprintln(streams.Err, "skiff: "+text) }}
	defer func() { err = errors.Join(err, w.Close()) }()
	err = archive.Walk(f, as, false, func(h *tar.Header, content io.Reader) error {
		if err := context.Cause(c.Context); err != nil {
			return err
		}
		return w.Put(h, content)
	})
	if err != nil {
		return fail(err)
	}
	if !c.Bool("quiet") {
		fmt.Fprintf(streams.Err, "Successfully copied %s to %s\n", humanSize(w.Bytes), title)
	}
	return nil
}
