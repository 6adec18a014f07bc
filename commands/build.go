//go:build !front

package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

func buildCommand(cmd *cli.Command) {
	cmd.Flags = append(buildFlags(), accessFlags()...)
	cmd.Before = operands(cmd, 0, 1)
	cmd.Action = func(c *cli.Context) error {
		if c.NArg() == 0 {
			return &usageError{text: "'skiff build' requires 1 argument", verb: "build", usage: "skiff build [OPTIONS] PATH | URL | -", code: exitFailed}
		}
		return withStore(c, func(s *storage.Store, records *record.Store) error {
			o, end, err := buildOptions(c, s)
			defer end()
			if err != nil {
				return err
			}
			err = build.Build(c.Context, s, o, func(b *build.Built) error { return writeBuilt(c, s, records, b) })
			if err != nil {
				build.PrintSource(streamsOf(c).Err, err)
			}
			return err
		})
	}
}

// writeBuilt puts what was built where it was asked for and tells its id.
func writeBuilt(c *cli.Context, _ *storage.Store, records *record.Store, b *build.Built) error {
	names := listOf(c, "tag")
	id, err := b.Store(names...)
	if err != nil {
		return err
	}
	emitImage(records, "build", id, names)
	if path := c.String("iidfile"); path != "" {
		if err := disk.WriteFile(path, []byte("sha256:"+id), 0o644, disk.Volatile); err != nil {
			return fmt.Errorf("cannot write --iidfile: %w", err)
		}
	}
	_, err = fmt.Fprintln(c.App.Writer, "sha256:"+id)
	return err
}

// buildOptions turns flags and operand into a build; end removes what was made for it.
func buildOptions(c *cli.Context, s *storage.Store) (o build.Options, end func(), err error) {
	end = func() {}
	o = build.Options{
		Frontend: map[string]string{}, Locals: map[string]string{}, Access: accessOf(c), Pull: c.Bool("pull"), Network: "host",
		Progress: c.String("progress"), Err: streamsOf(c).Err,
	}
	if c.Bool("quiet") || o.Progress == "none" {
		o.Progress = "quiet"
	}
	if err := buildContext(c, s, &o); err != nil {
		return o, end, err
	}
	for _, a := range listOf(c, "build-arg") {
		name, value, given := strings.Cut(a, "=")
		if !given {
			if value, given = os.LookupEnv(name); !given {
				continue
			}
		}
		o.Frontend["build-arg:"+name] = value
	}
	for _, l := range listOf(c, "label") {
		name, value, _ := strings.Cut(l, "=")
		o.Frontend["label:"+name] = value
	}
	for _, name := range []string{"target", "platform"} {
		if v := c.String(name); v != "" {
			o.Frontend[name] = v
		}
	}
	if c.Bool("no-cache") {
		o.Frontend["no-cache"] = ""
	} else if list := listOf(c, "no-cache-filter"); len(list) > 0 {
		o.Frontend["no-cache"] = strings.Join(list, ",")
	}
	return o, end, nil
}

// buildContext finds the directory to build and the Dockerfile.
func buildContext(c *cli.Context, _ *storage.Store, o *build.Options) error {
	where, file := c.Args().First(), c.String("file")
	st, err := os.Stat(where)
	if err != nil || !st.IsDir() {
		return fmt.Errorf("cannot build %s: it is no directory", where)
	}
	o.Locals["context"] = where
	if file == "" {
		file = filepath.Join(where, "Dockerfile")
		if _, err := os.Stat(file); err != nil {
			if _, err := os.Stat(filepath.Join(where, "Containerfile")); err == nil {
				file = filepath.Join(where, "Containerfile")
			}
		}
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("cannot read the Dockerfile: %w", err)
	}
	o.Locals["dockerfile"], o.Frontend["filename"] = filepath.Dir(file), filepath.Base(file)
	return nil
}

// buildFlags are those of build.
func buildFlags() []cli.Flag {
	return []cli.Flag{
		option{"build-arg", "", "list", "Set build-time variables", ""},
		option{"file", "f", "string", "Name of the Dockerfile (default PATH/Dockerfile, then PATH/Containerfile)", ""},
		option{"iidfile", "", "string", "Write the image ID to a file", ""},
		option{"label", "", "list", "Set metadata for an image", ""},
		option{"no-cache", "", "", "Do not use cache when building the image", ""},
		option{"no-cache-filter", "", "list", "Do not cache specified stages", ""},
		option{"platform", "", "string", "Set target platform for build", ""},
		option{"progress", "", "string", "Set type of progress output (auto, none, plain, quiet, rawjson, tty)", "auto"},
		option{"pull", "", "", "Always attempt to pull all referenced images", ""},
		option{"quiet", "q", "", "Suppress the build output and print image ID on success", ""},
		option{"tag", "t", "list", "Image name, NAME[:TAG]", ""},
		option{"target", "", "string", "Set the target build stage to build", ""},
	}
}
