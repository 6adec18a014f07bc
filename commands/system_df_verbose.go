//go:build !front

package commands

// This file is system df -v: a table for each kind of things that take space.

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/skiff-containers/skiff/storage/image"
)

// details writes the four tables of system df -v.
func (d usage) details(w io.Writer) error {
	now := time.Now()
	for _, t := range []struct {
		title  string
		header string
		rows   [][]string
	}{
		{"Images space usage:", "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS", d.imageCells(now)},
		{"Containers space usage:", "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES", d.containerCells(now)},
		{"Local Volumes space usage:", "VOLUME NAME\tLINKS\tSIZE", d.volumeCells()},
		{"Build cache usage: " + humanSize(d.cacheSpace().size), "CACHE ID\tCACHE TYPE\tSIZE\tLAST USED\tNAME", d.cacheCells(now)},
	} {
		fmt.Fprintf(w, "%s\n\n", t.title)
		tw := newTable(w)
		fmt.Fprintln(tw, t.header)
		for _, cells := range t.rows {
			for i, cell := range cells {
				if i > 0 {
					fmt.Fprint(tw, "\t")
				}
				fmt.Fprint(tw, cell)
			}
			fmt.Fprintln(tw)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func (d usage) imageCells(now time.Time) (rows [][]string) {
	shared := sharedSizes(d.images)
	for _, img := range d.images {
		for _, r := range imageRows(img, d.names[img.ID], nil, now, false, false) {
			rows = append(rows, []string{
				r.Repository, r.Tag, r.ID, r.CreatedSince, r.Size, humanSize(shared[img.ID]), humanSize(img.Size - shared[img.ID]),
				strconv.Itoa(d.users[img.ID]),
			})
		}
	}
	return rows
}

// sharedSizes are, by image, the bytes of its layers that another image has as well.
func sharedSizes(images []*image.Image) map[string]int64 {
	owners := map[string]int{}
	for _, img := range images {
		for _, dir := range img.Layers {
			owners[dir]++
		}
	}
	shared := map[string]int64{}
	for _, img := range images {
		for i, dir := range img.Layers {
			if owners[dir] > 1 && i < len(img.Sizes) {
				shared[img.ID] += img.Sizes[i]
			}
		}
	}
	return shared
}

func (d usage) containerCells(now time.Time) (rows [][]string) {
	for _, t := range d.containers {
		r := newContainerRow(t, now, false)
		rows = append(rows, []string{r.ID, r.Image, r.Command, r.LocalVolumes, humanSize(d.written[t.ID]), r.RunningFor, r.Status, r.Names})
	}
	return rows
}

func (d usage) volumeCells() (rows [][]string) {
	for _, v := range d.volumes {
		rows = append(rows, []string{v.Name, strconv.Itoa(len(d.links[v.Name])), humanSize(d.content[v.Name])})
	}
	return rows
}

func (d usage) cacheCells(now time.Time) (rows [][]string) {
	for _, u := range d.cache {
		rows = append(rows, []string{shortID(u.ID), u.Kind, humanSize(u.Size), humanDuration(now.Sub(u.Used)) + " ago", ellipsis(u.Title(), 60)})
	}
	return rows
}
