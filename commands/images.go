package commands

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/ref"
)

func imagesCommand() *cli.Command {
	return &cli.Command{
		Usage: "List images", ArgsUsage: "[REPOSITORY[:TAG]]",
		Flags: []cli.Flag{
			option{"all", "a", "", "Show all images (there are no intermediate ones to hide)", ""},
			option{"digests", "", "", "Show digests", ""},
			option{"filter", "f", "filter", "Filter output based on conditions provided", ""},
			option{"format", "", "string", formatUsage, ""},
			option{"no-trunc", "", "", "Don't truncate output", ""},
			option{"quiet", "q", "", "Only show image IDs", ""},
		},
		Action: images,
	}
}

func images(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	f, err := parseFilters(listOf(c, "filter"), "reference", "label", "label!", "dangling", "before", "since", "until")
	if err != nil {
		return err
	}
	if c.NArg() == 1 {
		f["reference"] = append(f["reference"], c.Args().First())
	}
	list, err := h.Images.List()
	if err != nil {
		return err
	}
	byID, err := h.Images.Names()
	if err != nil {
		return err
	}
	keep, err := imageFilter(h.Images, list, f)
	if err != nil {
		return err
	}
	var rows []imageRow
	now, seen := time.Now(), map[string]bool{}
	for _, img := range list {
		if !keep(img, byID[img.ID]) {
			continue
		}
		for _, r := range imageRows(img, byID[img.ID], f["reference"], now, c.Bool("no-trunc"), c.Bool("digests")) {
			if c.Bool("quiet") && seen[r.ID] {
				continue
			}
			seen[r.ID] = true
			rows = append(rows, r)
		}
	}
	return printImages(c, rows)
}

func printImages(c *cli.Context, rows []imageRow) error {
	format := c.String("format")
	if c.Bool("quiet") && format == "" {
		for _, r := range rows {
			if _, err := fmt.Fprintln(c.App.Writer, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	digests := c.Bool("digests")
	l := listing[imageRow]{
		columns: []column{{"REPOSITORY", "Repository"}, {"TAG", "Tag"}},
		headers: map[string]string{"CreatedAt": "CREATED AT", "Digest": "DIGEST", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "VirtualSize": "SIZE"},
		cells: func(r imageRow) []string {
			if digests {
				return []string{r.Repository, r.Tag, r.Digest, r.ID, r.CreatedSince, r.Size}
			}
			return []string{r.Repository, r.Tag, r.ID, r.CreatedSince, r.Size}
		},
	}
	if digests {
		l.columns = append(l.columns, column{"DIGEST", "Digest"})
	}
	l.columns = append(l.columns, column{"IMAGE ID", "ID"}, column{"CREATED", "CreatedSince"}, column{"SIZE", "Size"})
	return l.print(c.App.Writer, format, rows)
}

// imageRow is a line of images: the fields of its --format.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize string

	labels map[string]string
}

// Label is one label's value.
func (r imageRow) Label(name string) string { return r.labels[name] }

// imageRows makes a line per name, or one for an image without names; with digests one for each digest that the name's repository has for the image.
func imageRows(img *image.Image, names, patterns []string, now time.Time, whole, digests bool) (rows []imageRow) {
	base := imageRow{
		Containers: "N/A", CreatedAt: img.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		CreatedSince: humanDuration(now.Sub(img.Created)) + " ago", Digest: "<none>", ID: shortID(img.ID),
		Repository: "<none>", SharedSize: "N/A", Size: humanSize(img.Size), Tag: "<none>", UniqueSize: "N/A", VirtualSize: humanSize(img.Size),
		labels: img.Config.Config.Labels,
	}
	if img.Created.IsZero() {
		base.CreatedSince, base.CreatedAt = "N/A", "N/A"
	}
	if whole {
		base.ID = "sha256:" + img.ID
	}
	for _, n := range names {
		if !matchesReference(n, patterns) {
			continue
		}
		r := base
		r.Repository, r.Tag = splitFamiliar(n)
		for i, d := range digestsOf(img, n) {
			if i > 0 && digests {
				rows = append(rows, r)
			}
			if i == 0 || digests {
				r.Digest = d
			}
		}
		rows = append(rows, r)
	}
	if len(names) == 0 {
		for _, d := range img.RepoDigests[:min(1, len(img.RepoDigests))] {
			base.Repository, _ = splitFamiliar(d)
			_, base.Digest, _ = strings.Cut(d, "@")
		}
		rows = append(rows, base)
	}
	return rows
}

// digestsOf are the digests that a name's repository has for an image.
func digestsOf(img *image.Image, name string) (digests []string) {
	r, err := ref.Parse(name)
	if err != nil {
		return nil
	}
	for _, d := range img.RepoDigests {
		if repository, sum, _ := strings.Cut(d, "@"); repository == r.Name() {
			digests = append(digests, sum)
		}
	}
	return digests
}

// splitFamiliar is a stored name as Docker shows it, in two columns.
func splitFamiliar(name string) (repository, tag string) {
	r, err := ref.Parse(name)
	if err != nil {
		return name, "<none>"
	}
	tag = r.Tag
	r.Tag, r.Digest = "latest", ""
	if tag == "" {
		tag = "<none>"
	}
	return strings.TrimSuffix(r.Familiar(), ":latest"), tag
}

// matchesReference says whether a name matches one of the patterns, as Docker's shells-like ones do: with or without a tag.
func matchesReference(name string, patterns []string) bool {
	repository, tag := splitFamiliar(name)
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		for _, candidate := range []string{repository, repository + ":" + tag, name} {
			if ok, err := path.Match(p, candidate); ok && err == nil {
				return true
			}
		}
		if r, err := ref.Parse(p); err == nil && (r.Tag == tag || !strings.Contains(path.Base(p), ":")) {
			want, _ := splitFamiliar(r.String())
			return want == repository
		}
		return false
	})
}
