package commands

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
)

func pruneFlags(example string) []cli.Flag {
	return []cli.Flag{
		option{"filter", "", "filter", "Provide filter values (e.g. \"" + example + "\")", ""},
		option{"force", "f", "", "Do not prompt for confirmation", ""},
	}
}

func containerPruneCommand() *cli.Command {
	return &cli.Command{Usage: "Remove all stopped containers", Flags: pruneFlags("until=<timestamp>"), Action: containerPrune}
}

// containerPrune is inside the user namespace: what a container wrote can be measured only there.
func containerPrune(c *cli.Context) error {
	f, err := parseFilters(listOf(c, "filter"), "until", "label", "label!")
	if err != nil {
		return err
	}
	until, err := f.until()
	if err != nil {
		return err
	}
	if err := confirm(c, "This will remove all stopped containers."); err != nil {
		return err
	}
	freed, err := pruneContainers(c, f, until)
	return reclaimed(c, freed, err)
}

// reclaimed says how many bytes were freed, also when not everything could be.
func reclaimed(c *cli.Context, freed int64, err error) error {
	_, werr := fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", humanSize(freed))
	return errors.Join(err, werr)
}

// made says whether something was made before until, which is any time when no such filter is given: a clock that was set back keeps nothing.
func made(at, until time.Time) bool { return until.IsZero() || at.Before(until) }

// pruneContainers removes the stopped containers that the filters take and that are older than until, and says so. It returns the bytes that they had written.
func pruneContainers(c *cli.Context, f filters, until time.Time) (freed int64, err error) {
	h, err := hostOf(c)
	if err != nil {
		return 0, err
	}
	list, err := h.List(c.Context)
	errs := []error{err}
	var gone []string
	for _, t := range list {
		if running(t) || !made(t.Created, until) || !f.labels(t.Config.Labels) {
			continue
		}
		size := layerSize(h, t.Container)
		if err := h.Remove(c.Context, t.Container, run.RemoveOptions{}); err != nil {
			errs = append(errs, err)
			continue
		}
		freed += size
		gone = append(gone, t.ID)
	}
	if len(gone) > 0 {
		fmt.Fprintf(c.App.Writer, "Deleted Containers:\n%s\n\n", strings.Join(gone, "\n"))
	}
	return freed, errors.Join(errs...)
}

func volumePruneCommand() *cli.Command {
	return &cli.Command{
		Usage:  "Remove unused local volumes",
		Flags:  append(pruneFlags("label=<label>"), option{"all", "a", "", "Remove all unused volumes, not just anonymous ones", ""}),
		Action: volumePrune,
	}
}

func volumePrune(c *cli.Context) error {
	f, err := parseFilters(listOf(c, "filter"), "label", "label!", "all")
	if err != nil {
		return err
	}
	all, err := f.truth("all", c.Bool("all"))
	if err != nil {
		return err
	}
	what := "anonymous local volumes not used by at least one container."
	if all {
		what = "local volumes not used by at least one container."
	}
	if err := confirm(c, "This will remove "+what); err != nil {
		return err
	}
	freed, err := pruneVolumes(c, f, all)
	return reclaimed(c, freed, err)
}

// pruneVolumes removes the unused volumes that the filters take, anonymous ones unless all is meant, and says so. It returns the bytes that were in them.
func pruneVolumes(c *cli.Context, f filters, all bool) (freed int64, err error) {
	h, err := hostOf(c)
	if err != nil {
		return 0, err
	}
	users, err := volumeUsers(h)
	if err != nil {
		return 0, err
	}
	list, err := h.Volumes.List()
	errs := []error{err}
	var gone []string
	for _, v := range list {
		if len(users[v.Name]) > 0 || !all && !v.Anonymous || !f.labels(v.Labels) {
			continue
		}
		size := treeSize(v.Mountpoint)
		if err := removeVolume(h, users, v.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		freed += size
		gone = append(gone, v.Name)
	}
	if len(gone) > 0 {
		fmt.Fprintf(c.App.Writer, "Deleted Volumes:\n%s\n\n", strings.Join(gone, "\n"))
	}
	return freed, errors.Join(errs...)
}

// treeSize adds up the sizes of a directory's files.
func treeSize(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be read is not counted
		}
		if st, err := e.Info(); err == nil {
			total += st.Size()
		}
		return nil
	})
	return total
}

// confirm asks the user, unless --force answers; anything but y ends the command.
func confirm(c *cli.Context, what string) error {
	if c.Bool("force") {
		return nil
	}
	fmt.Fprintf(c.App.Writer, "WARNING! %s\nAre you sure you want to continue? [y/N] ", what)
	answer, _ := bufio.NewReader(c.App.Reader).ReadString('\n')
	if strings.ToLower(strings.TrimSpace(answer)) != "y" {
		return errors.New("not confirmed: nothing was removed")
	}
	return nil
}
