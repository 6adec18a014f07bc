//go:build !front

package commands

// This file puts what was built where it was asked for.

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

// destination is one --output.
type destination struct {
	kind, dest string
	names      []string
	push       bool
	rewrite    bool
}

// destinations reads --output, --push and --load; none is the store.
func destinations(c *cli.Context) ([]destination, error) {
	var list []destination
	for _, text := range listOf(c, "output") {
		d, err := parseDestination(text)
		if err != nil {
			return nil, &usageError{text: fmt.Sprintf("cannot use --output %s: %s", text, err), verb: "build", code: exitOurs}
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		list = append(list, destination{kind: "image"})
	}
	for i := range list {
		d := &list[i]
		d.push = d.push || c.Bool("push") && d.kind == "image"
		d.names = append(d.names, listOf(c, "tag")...)
		if d.push && len(d.names) == 0 {
			return nil, &usageError{text: "cannot push what has no name: give it one with --tag", verb: "build", code: exitOurs}
		}
	}
	return list, nil
}

// parseDestination reads type=...,dest=...; a path alone is a directory, and - an archive on standard output.
func parseDestination(text string) (d destination, err error) {
	if !strings.Contains(text, "=") {
		if text == "-" {
			return destination{kind: "tar", dest: "-"}, nil
		}
		return destination{kind: "local", dest: text}, nil
	}
	for _, field := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return d, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		switch key {
		case "type":
			d.kind = value
		case "dest":
			d.dest = value
		case "name":
			d.names = append(d.names, value)
		case "push":
			d.push = value == "true"
		case "rewrite-timestamp":
			d.rewrite = value == "true"
		default:
			return d, fmt.Errorf("%q is not known in this version; there are type, dest, name, push and rewrite-timestamp", key)
		}
	}
	switch d.kind {
	case "registry":
		d.kind, d.push = "image", true
	case "local", "tar", "oci":
		if d.dest == "" {
			return d, fmt.Errorf("type=%s needs dest=PATH", d.kind)
		}
	case "image", "docker":
	default:
		return d, fmt.Errorf("type %q is not local, tar, oci, docker, image or registry", d.kind)
	}
	return d, nil
}

// writeBuilt writes all destinations and tells the image's id.
func writeBuilt(c *cli.Context, s *storage.Store, records *record.Store, b *build.Built, list []destination) error {
	if b.Config == nil && len(b.Text["result.txt"]) > 0 {
		return printCall(c, b)
	}
	id := ""
	var names []string
	for _, d := range list {
		var err error
		switch d.kind {
		case "local":
			err = b.Local(c.Context, d.dest)
		case "tar":
			err = toFile(c, d.dest, b.Tar)
		default:
			if id, err = b.Store(d.names...); err != nil {
				return err
			}
			names = d.names
			emitImage(records, "build", id, d.names)
			err = send(c, s, id, d)
		}
		if err != nil {
			return err
		}
	}
	if err := buildFiles(c, s, id, names); err != nil || id == "" {
		return err
	}
	for _, d := range list {
		if d.dest == "-" {
			return nil // standard output is the archive's
		}
	}
	_, err := fmt.Fprintln(c.App.Writer, "sha256:"+id)
	return err
}

// send copies an image of the store to an archive or a registry.
func send(c *cli.Context, s *storage.Store, id string, d destination) error {
	if d.push {
		for _, name := range d.names {
			if _, err := pull.Push(c.Context, s, name, "", pull.PushOptions{Access: accessOf(c)}); err != nil {
				return err
			}
		}
	}
	if d.dest == "" {
		return nil
	}
	format := map[string]string{"docker": "docker-archive", "oci": "oci-archive"}[d.kind]
	if format == "" {
		return fmt.Errorf("cannot write type=%s to %s: it goes to the store", d.kind, d.dest)
	}
	words := d.names
	if len(words) == 0 {
		words = []string{id}
	}
	return toFile(c, d.dest, func(f *os.File) error {
		return pull.Save(c.Context, s, f, words, pull.SaveOptions{Format: format})
	})
}

// toFile opens a destination; one that fails is removed again.
func toFile(c *cli.Context, dest string, write func(*os.File) error) error {
	if dest == "-" {
		if isTerminal(streamsOf(c).Out) {
			return fmt.Errorf("cannot write an archive to a terminal: redirect standard output or give dest=FILE")
		}
		return write(streamsOf(c).Out)
	}
	f, err := os.OpenFile(dest, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(dest) // it is a part of an archive
	}
	return err
}

// buildFiles writes --iidfile and --metadata-file.
func buildFiles(c *cli.Context, s *storage.Store, id string, names []string) error {
	if path := c.String("iidfile"); path != "" && id != "" {
		if err := disk.WriteFile(path, []byte("sha256:"+id), 0o644, disk.Volatile); err != nil {
			return fmt.Errorf("cannot write --iidfile: %w", err)
		}
	}
	path := c.String("metadata-file")
	if path == "" {
		return nil
	}
	facts := map[string]any{}
	if id != "" {
		facts["containerimage.config.digest"] = "sha256:" + id
		if img, err := s.Index.Load(id); err == nil {
			facts["containerimage.digest"] = img.Digest
		}
	}
	if len(names) > 0 {
		facts["image.name"] = strings.Join(names, ",")
	}
	data, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return err
	}
	if err := disk.WriteFile(path, append(data, '\n'), 0o644, disk.Volatile); err != nil {
		return fmt.Errorf("cannot write --metadata-file: %w", err)
	}
	return nil
}

// printCall answers --call.
func printCall(c *cli.Context, b *build.Built) error {
	key := "result.txt"
	if strings.HasSuffix(c.String("call"), "format=json") {
		key = "result.json"
	}
	if _, err := c.App.Writer.Write(append([]byte(strings.TrimRight(string(b.Text[key]), "\n")), '\n')); err != nil {
		return err
	}
	if code := string(b.Text["result.statuscode"]); code != "" && code != "0" {
		return exitCode(exitFailed)
	}
	return nil
}
