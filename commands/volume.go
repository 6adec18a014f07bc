package commands

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

func volumeCreateCommand() *cli.Command {
	return &cli.Command{
		Usage: "Create a volume", ArgsUsage: "[VOLUME]",
		Flags: []cli.Flag{
			option{"driver", "d", "string", "Specify volume driver name", "local"},
			option{"label", "", "list", "Set metadata for a volume", ""},
			option{"name", "", "string", "The same as the operand", ""},
			option{"opt", "o", "map", "Set driver specific options", ""},
		},
		Action: volumeCreate,
	}
}

func volumeCreate(c *cli.Context) error {
	if d := c.String("driver"); d != "local" {
		return fmt.Errorf("cannot create a volume with --driver %s: there is only the local driver", d)
	}
	options, err := parseMap("opt", listOf(c, "opt"))
	if err != nil {
		return err
	}
	name := first(c.Args().First(), c.String("name"))
	anonymous := name == ""
	if anonymous {
		name = record.NewID()
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	v, created, err := h.Volumes.Create(volume.Volume{Name: name, Driver: "local", Labels: parseLabels(listOf(c, "label")), Options: options, Anonymous: anonymous})
	if err != nil {
		return err
	}
	if created {
		if err := h.Records.Emit(record.Event{Type: "volume", Action: "create", ID: v.Name, Attributes: map[string]string{"driver": "local"}}); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(c.App.Writer, v.Name)
	return err
}

// parseLabels reads name=value words; a name alone has the empty value.
func parseLabels(words []string) map[string]string {
	labels := map[string]string{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		labels[k] = v
	}
	return labels
}

// parseMap reads the key=value words of a flag.
func parseMap(flag string, words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("invalid argument %q for --%s: it has the form key=value", w, flag)
		}
		m[k] = v
	}
	return m, nil
}

func volumeRmCommand() *cli.Command {
	return &cli.Command{
		Usage: "Remove one or more volumes. You cannot remove a volume that is in use by a container", ArgsUsage: "VOLUME [VOLUME...]",
		Flags: []cli.Flag{option{"force", "f", "", "Do not complain about volumes that are not there", ""}},
		Action: func(c *cli.Context) error {
			h, err := hostOf(c)
			if err != nil {
				return err
			}
			users, err := volumeUsers(h)
			if err != nil {
				return err
			}
			return eachOperand(c, func(name string) error {
				err := removeVolume(h, users, name)
				if errors.Is(err, volume.ErrNotFound) && c.Bool("force") {
					err = nil
				}
				if err == nil {
					_, err = fmt.Fprintln(c.App.Writer, name)
				}
				return err
			})
		},
	}
}

// volumeUsers is, by volume, the containers that use it. A record that cannot be read might use any of them.
func volumeUsers(h *run.Host) (map[string][]string, error) {
	list, err := h.Records.List()
	if err != nil {
		return nil, fmt.Errorf("cannot tell which volumes are in use: %w", err)
	}
	users := map[string][]string{}
	for _, t := range list {
		for _, u := range t.Volumes {
			if !slices.Contains(users[u.Name], t.Name) {
				users[u.Name] = append(users[u.Name], t.Name)
			}
		}
	}
	return users, nil
}

// removeVolume removes one volume that nobody uses.
func removeVolume(h *run.Host, users map[string][]string, name string) error {
	if by := users[name]; len(by) > 0 {
		return hinted{
			fmt.Errorf("cannot remove volume %s: %w by %s", name, volume.ErrInUse, strings.Join(by, ", ")),
			"remove the containers first: skiff rm " + strings.Join(by, " "),
		}
	}
	if err := h.Volumes.Remove(name); err != nil {
		return err
	}
	if err := h.Volumes.Sweep(); err != nil { // what killed commands have left
		return err
	}
	return h.Records.Emit(record.Event{Type: "volume", Action: "destroy", ID: name, Attributes: map[string]string{"driver": "local"}})
}
