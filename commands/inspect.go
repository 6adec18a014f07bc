package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

func inspectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Return low-level information on containers, images and volumes", ArgsUsage: "NAME|ID [NAME|ID...]",
		Flags: []cli.Flag{
			inspectFormat(),
			option{"size", "s", "", "Display total file sizes if the type is container", ""},
			option{"type", "", "string", "Only inspect objects of the given type (container, image, volume)", ""},
		},
		Action: func(c *cli.Context) error { return inspect(c, c.String("type")) },
	}
}

func inspectFormat() cli.Flag {
	return option{"format", "f", "string", "Format output: 'json', or a Go 'TEMPLATE'", ""}
}

func containerInspectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Display detailed information on one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags:  []cli.Flag{inspectFormat(), option{"size", "s", "", "Display total file sizes", ""}},
		Action: func(c *cli.Context) error { return inspect(c, "container") },
	}
}

func imageInspectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Display detailed information on one or more images", ArgsUsage: "IMAGE [IMAGE...]",
		Flags:  []cli.Flag{inspectFormat()},
		Action: func(c *cli.Context) error { return inspect(c, "image") },
	}
}

func volumeInspectCommand() *cli.Command {
	return &cli.Command{
		Usage: "Display detailed information on one or more volumes", ArgsUsage: "VOLUME [VOLUME...]",
		Flags:  []cli.Flag{inspectFormat()},
		Action: func(c *cli.Context) error { return inspect(c, "volume") },
	}
}

// inspect shows each object that the operands name; kind "" looks for a container, then an image, then a volume.
func inspect(c *cli.Context, kind string) error {
	switch kind {
	case "", "container", "image", "network", "volume":
	default:
		return &usageError{
			text: fmt.Sprintf("invalid argument %q for \"--type\" flag: it is container, image, network or volume", kind),
			verb: "inspect", code: exitFailed,
		}
	}
	if p := programOf(c); c.Bool("size") && p.life == Front {
		return p.inside() // what a container wrote is readable only there
	}
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	var found []any
	failed := eachOperand(c, func(name string) error {
		object, err := inspectOne(c, h, kind, name)
		if err == nil {
			found = append(found, object)
		}
		return err
	})
	return errors.Join(printInspected(c, found), failed)
}

// inspectOne finds one object.
func inspectOne(c *cli.Context, h *run.Host, kind, name string) (any, error) {
	if kind == "" || kind == "container" {
		t, err := h.Find(c.Context, strings.TrimPrefix(name, "/"))
		if err == nil {
			return inspectContainer(h, t, c.Bool("size")), nil
		}
		if kind != "" || !errors.Is(err, record.ErrNotFound) {
			return nil, err
		}
	}
	if kind == "" || kind == "image" {
		img, err := h.Images.Find(name)
		if err == nil {
			return inspectImage(h, img)
		}
		if kind != "" || !errors.Is(err, image.ErrNotFound) {
			return nil, err
		}
	}
	if kind == "network" {
		return inspectNet(h, name)
	}
	v, err := h.Volumes.Find(name)
	switch {
	case err == nil:
		return inspectVolume(v), nil
	case kind == "" && errors.Is(err, volume.ErrNotFound):
		if n, err := inspectNet(h, name); err == nil {
			return n, nil
		}
		return nil, fmt.Errorf("no such object: %s", name)
	}
	return nil, err
}

// printInspected shows objects as an indented list, one JSON list, or a template's lines.
func printInspected(c *cli.Context, found []any) error {
	if found == nil {
		found = []any{}
	}
	format := c.String("format")
	switch format {
	case "", "json":
		enc := json.NewEncoder(c.App.Writer)
		enc.SetEscapeHTML(false)
		if format == "" {
			enc.SetIndent("", "    ")
		}
		return enc.Encode(found)
	}
	t, err := parseFormat(format)
	if err != nil {
		return err
	}
	for _, object := range found {
		tree, err := asTree(object)
		if err != nil {
			return err
		}
		if err = executeLines(c.App.Writer, t, []any{tree}); err != nil {
			// What is missing may be a user's word, such as a label, and not a field: then it is <no value>. The struct knows which is which.
			if executeLines(c.App.Writer, template.Must(t.Clone()), []any{object}) != nil {
				return err
			}
		}
	}
	return nil
}

// asTree turns a struct into what its JSON says, so that templates use the names that users read there. Whole
// numbers stay whole.
func asTree(object any) (any, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	tree = wholeNumbers(tree)
	if m, ok := tree.(map[string]any); ok && m["Id"] != nil {
		m["ID"] = m["Id"]
	}
	return tree, nil
}

func wholeNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k := range v {
			v[k] = wholeNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	}
	return v
}
