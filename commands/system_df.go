//go:build !front

package commands

// This file is system df: the four lines of what takes space, and how much of it the prune verbs would free.

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

func systemDfCommand(cmd *cli.Command) {
	cmd.Flags = []cli.Flag{
		option{"format", "", "string", formatUsage, ""},
		option{"verbose", "v", "", "Show detailed information on space usage", ""},
	}
	cmd.Before = operands(cmd, 0, 0)
	cmd.Action = func(c *cli.Context) error {
		if c.Bool("verbose") && c.String("format") != "" {
			return errors.New("cannot use --format with --verbose: it formats the lines of the short table")
		}
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			d, err := spaceOf(c, s)
			if err != nil {
				return err
			}
			if c.Bool("verbose") {
				return d.details(c.App.Writer)
			}
			l := listing[spaceRow]{
				columns: []column{
					{"TYPE", "Type"},
					{"TOTAL", "TotalCount"},
					{"ACTIVE", "Active"},
					{"SIZE", "Size"},
					{"RECLAIMABLE", "Reclaimable"},
				},
				cells: func(r spaceRow) []string {
					return []string{r.Type, fmt.Sprint(r.TotalCount), fmt.Sprint(r.Active), r.Size, r.Reclaimable}
				},
			}
			return l.print(c.App.Writer, c.String("format"), d.rows())
		})
	}
}

// spaceRow is a line of system df: the fields of its --format, as Docker names them.
type spaceRow struct {
	Type        string
	TotalCount  int
	Active      int
	Size        string
	Reclaimable string
}

// space is one kind of things that take space: their number, how many of them are in use, their bytes, and those that pruning frees.
type space struct {
	total, active int
	size, free    int64
}

// row puts a kind into words. As in Docker's table the build cache has no percents.
func (s space) row(kind string, percent bool) spaceRow {
	r := spaceRow{Type: kind, TotalCount: s.total, Active: s.active, Size: humanSize(s.size), Reclaimable: humanSize(s.free)}
	if percent && s.size > 0 {
		r.Reclaimable += fmt.Sprintf(" (%d%%)", s.free*100/s.size)
	}
	return r
}

// usage is what spaceOf found: everything with its size, which the short table sums up and the long one lists.
type usage struct {
	images     []*image.Image
	names      map[string][]string // of images, by id
	users      map[string]int      // containers by image
	containers []run.Container
	written    map[string]int64 // by container
	volumes    []*volume.Volume
	links      map[string][]string // containers by volume
	content    map[string]int64    // by volume
	cache      []snap.Usage
	building   bool
}

// spaceOf walks through all that there is. It runs inside the user namespace, where everything can be read.
func spaceOf(c *cli.Context, s *storage.Store) (usage, error) {
	d := usage{users: map[string]int{}, written: map[string]int64{}, content: map[string]int64{}}
	h, err := hostOf(c)
	if err != nil {
		return d, err
	}
	if err = s.Reconcile(); err != nil { // an index that knows no sizes of layers yet
		return d, err
	}
	var errs [5]error
	d.images, errs[0] = s.Index.List()
	d.names, errs[1] = s.Index.Names()
	d.containers, errs[2] = h.List(c.Context)
	d.volumes, errs[3] = h.Volumes.List()
	d.links, errs[4] = volumeUsers(h)
	if err = errors.Join(errs[:]...); err != nil {
		return d, err
	}
	for _, t := range d.containers {
		d.users[t.ImageID]++
		d.written[t.ID] = layerSize(h, t.Container)
	}
	for _, v := range d.volumes {
		d.content[v.Name] = treeSize(v.Mountpoint)
	}
	// Before Usage, which takes the lock itself.
	if d.building, err = disk.Locked(filepath.Join(s.Data(), "build", "lock")); err != nil {
		return d, err
	}
	d.cache, err = build.Usage(s, build.PruneOptions{})
	return d, err
}

// rows are the four lines.
func (d usage) rows() []spaceRow {
	return []spaceRow{
		imageSpace(d.images, d.users).row("Images", true),
		d.containerSpace().row("Containers", true),
		d.volumeSpace().row("Local Volumes", true),
		d.cacheSpace().row("Build Cache", false),
	}
}

// imageSpace counts each layer once, however many images have it. What no container's image has can be freed, but for additional stores,
// which are only read.
func imageSpace(images []*image.Image, users map[string]int) space {
	s := space{total: len(images)}
	sizes, kept := map[string]int64{}, map[string]bool{}
	for _, img := range images {
		if users[img.ID] > 0 {
			s.active++
		}
		for i, dir := range img.Layers {
			if i < len(img.Sizes) {
				sizes[dir] = img.Sizes[i]
			}
			kept[dir] = kept[dir] || users[img.ID] > 0 || img.ReadOnly
		}
	}
	for dir, size := range sizes {
		s.size += size
		if !kept[dir] {
			s.free += size
		}
	}
	return s
}

func (d usage) containerSpace() space {
	s := space{total: len(d.containers)}
	for _, t := range d.containers {
		s.size += d.written[t.ID]
		if running(t) {
			s.active++
		} else {
			s.free += d.written[t.ID]
		}
	}
	return s
}

func (d usage) volumeSpace() space {
	s := space{total: len(d.volumes)}
	for _, v := range d.volumes {
		s.size += d.content[v.Name]
		if len(d.links[v.Name]) > 0 {
			s.active++
		} else {
			s.free += d.content[v.Name]
		}
	}
	return s
}

// cacheSpace: while a build runs nothing of the cache can be pruned, so all of it is in use.
func (d usage) cacheSpace() space {
	s := space{total: len(d.cache)}
	for _, u := range d.cache {
		s.size += u.Size
	}
	if d.building {
		s.active = s.total
	} else {
		s.free = s.size
	}
	return s
}
