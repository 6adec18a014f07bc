package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

func createCommand() *cli.Command {
	return &cli.Command{Usage: "Create a new container", ArgsUsage: "IMAGE [COMMAND] [ARG...]", Flags: containerFlags(), Action: create}
}

func create(c *cli.Context) error {
	cfg, err := configOf(c)
	if err != nil {
		return err
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	t, err := createContainer(c, h, cfg, h.Create)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.App.Writer, t.ID)
	return err
}

// maker records a container: run.Host's Create or CreateAhead.
type maker func(ctx context.Context, cfg config.Config, name string) (*record.Container, error)

// createContainer gets the image as --pull says, records the container and writes --cidfile.
func createContainer(c *cli.Context, h *run.Host, cfg config.Config, put maker) (*record.Container, error) {
	if err := checkShared(cfg); err != nil {
		return nil, err
	}
	if n, ok := cfg.NIC(); ok && (len(cfg.Ports) > 0 || cfg.PublishAll) {
		return nil, fmt.Errorf("cannot publish ports with --network %s: the container has an address of its own on %s, where all of its ports are", cfg.Network, n.Bridge)
	}
	if helper, _ := cfg.UserMode(); (len(cfg.Ports) > 0 || cfg.PublishAll) && !cfg.Bridged() && helper == "" {
		fmt.Fprintf(c.App.ErrWriter, "skiff: published ports are discarded with --network %s\n", cfg.Network)
	}
	cidfile, err := openCIDFile(c.String("cidfile"))
	if err != nil {
		return nil, err
	}
	t, err := createPulling(c, h, cfg, put)
	if cidfile != nil {
		if err == nil {
			_, err = cidfile.WriteString(t.ID)
		} else {
			err = errors.Join(err, os.Remove(cidfile.Name()))
		}
		err = errors.Join(err, cidfile.Close())
	}
	return t, err
}

// checkShared refuses what is another container's to say, whose network is shared.
func checkShared(cfg config.Config) error {
	if !strings.HasPrefix(cfg.Network, "container:") {
		return nil
	}
	if len(cfg.Ports) > 0 || cfg.PublishAll {
		return fmt.Errorf("cannot publish ports with --network %s: the network is that container's; publish them there", cfg.Network)
	}
	for _, given := range []struct {
		flag string
		any  bool
	}{{"add-host", len(cfg.AddHost) > 0}, {"dns", len(cfg.DNS) > 0}, {"dns-search", len(cfg.DNSSearch) > 0}, {"dns-option", len(cfg.DNSOptions) > 0}} {
		if given.any {
			return fmt.Errorf("cannot use --%s with --network %s: hosts and name servers are that container's; give it there", given.flag, cfg.Network)
		}
	}
	return nil
}

// openCIDFile makes the file; one that exists belongs to another container.
func openCIDFile(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, hinted{fmt.Errorf("cannot write the container id: the file %s exists", path), "remove it, or give another --cidfile"}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the container id: %w", err)
	}
	return f, nil
}

// createPulling creates the container, with a pull before it when the policy or a missing image asks for one.
func createPulling(c *cli.Context, h *run.Host, cfg config.Config, put maker) (*record.Container, error) {
	name := strings.TrimPrefix(c.String("name"), "/")
	switch policy := c.String("pull"); policy {
	case "never":
		return put(c.Context, cfg, name)
	case "always":
		if err := pullImage(c, cfg); err != nil {
			return nil, err
		}
		return put(c.Context, cfg, name)
	case "missing", "":
	default:
		return nil, fmt.Errorf("invalid argument %q for --pull: it is always, missing or never", policy)
	}
	if cfg.Platform != "" {
		if img, err := h.Images.Find(cfg.Image); err == nil && !onPlatform(img, cfg.Platform) {
			if err := pullImage(c, cfg); err != nil {
				return nil, err
			}
		}
	}
	t, err := put(c.Context, cfg, name)
	if !errors.Is(err, image.ErrNotFound) {
		return t, err
	}
	if !c.Bool("quiet") && isTerminal(streamsOf(c).Err) {
		fmt.Fprintf(c.App.ErrWriter, "Unable to find image '%s' locally\n", cfg.Image)
	}
	if err := pullImage(c, cfg); err != nil {
		return nil, err
	}
	return put(c.Context, cfg, name)
}

// onPlatform says whether an image is for OS[/ARCH[/VARIANT]].
func onPlatform(img *image.Image, platform string) bool {
	c := img.Config
	return strings.HasPrefix(c.OS+"/"+c.Architecture+"/"+c.Variant+"/", strings.ToLower(platform)+"/")
}

// pullImage runs the engine's pull. Its progress is on standard error; the id it prints is nobody's business here.
func pullImage(c *cli.Context, cfg config.Config) error {
	words := []string{"pull"}
	if c.Bool("quiet") {
		words = append(words, "--quiet")
	}
	if cfg.Platform != "" {
		words = append(words, "--platform="+cfg.Platform)
	}
	p := programOf(c)
	if err := p.launch.Abort(); err != nil { // it may take long, and needs the user namespace itself
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	argv := append(append(append([]string{stage.Engine}, p.globals...), words...), "--", cfg.Image)
	err = p.enter(enginePath, argv, Streams{In: null, Out: null, Err: p.streams.Err})
	var code exitCode
	if errors.As(err, &code) {
		return exitCode(exitOurs) // the engine has said why
	}
	return err
}

// runChild runs a command with the given streams and returns its end as an error.
func runChild(ctx context.Context, path string, argv []string, s Streams) error {
	child := exec.CommandContext(ctx, path)
	child.Args, child.Stdin, child.Stdout, child.Stderr = argv, s.In, s.Out, s.Err
	var exit *exec.ExitError
	if err := child.Run(); errors.As(err, &exit) {
		return exitCode(exit.ExitCode())
	} else if err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	return nil
}
