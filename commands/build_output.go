//go:build !front

package commands

// This file puts what was built where it was asked for.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/ref"
)

// destination is one --output.
type destination struct {
	kind, dest string
	names      []string
	push       bool
	rewrite    bool
	directory  bool // of an OCI layout, not an archive
	// annotations are --annotation's and those of the destination itself
	annotations []build.Annotation
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
	var annotations []build.Annotation
	for _, text := range listOf(c, "annotation") {
		more, err := build.ParseAnnotation(text)
		if err != nil {
			return nil, misused{fmt.Errorf("cannot use --annotation %s: %w", text, err)}
		}
		annotations = append(annotations, more...)
	}
	platforms, err := platformsOf(c)
	if err != nil {
		return nil, misused{err}
	}
	several := len(platforms) > 1
	provenance, err := attestations(c)
	if err != nil {
		return nil, err
	}
	for i := range list {
		d := &list[i]
		d.push = d.push || c.Bool("push") && d.kind == "image"
		d.annotations = append(slices.Clone(annotations), d.annotations...)
		if several {
			if err := d.several(); err != nil {
				return nil, misused{err}
			}
		}
		if provenance != nil {
			if err := d.attested(); err != nil {
				return nil, misused{err}
			}
		}
		for _, a := range d.annotations {
			if a.On != build.OnManifest && !several && provenance == nil {
				return nil, misused{fmt.Errorf("cannot annotate the %s with %s: an image of one platform is written without an index", a.On, a.Key)}
			}
			if d.kind == "docker" || d.kind == "local" || d.kind == "tar" {
				return nil, misused{fmt.Errorf("cannot annotate what is written as type=%s: that has no annotations; use type=oci, image or registry", d.kind)}
			}
		}
		d.names = append(d.names, listOf(c, "tag")...)
		for _, name := range d.names { // before anything is built
			if r, err := ref.Parse(name); err != nil {
				return nil, misused{fmt.Errorf("cannot use --tag: %w", err)}
			} else if r.Digest != "" {
				return nil, misused{fmt.Errorf("cannot use --tag %s: a name cannot have a digest, which follows from the image", name)}
			}
		}
		if d.push && len(d.names) == 0 {
			return nil, &usageError{text: "cannot push what has no name: give it one with --tag", verb: "build", code: exitOurs}
		}
	}
	return list, nil
}

// several says why images of several platforms cannot go to a destination; nil when they can.
func (d destination) several() error {
	switch {
	case d.kind == "docker":
		return errors.New("cannot write images of several platforms with type=docker, which has room for one: use type=oci")
	case d.kind == "image" && !d.push:
		return errors.New("cannot keep images of several platforms under one name in the store: use --push, or -o type=oci,dest=FILE")
	}
	return nil
}

// attested says why attestations cannot go to a destination; nil when they can.
func (d destination) attested() error {
	if d.kind == "oci" || d.kind == "image" && d.push {
		return nil
	}
	return errors.New("cannot write an attestation: images of the store, Docker archives and plain files have none; use --push, or -o type=oci,dest=FILE")
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
		case "tar":
			d.directory = value == "false"
		default:
			if a, ok := outputAnnotation(key); ok {
				list, err := build.ParseAnnotation(a + "=" + value)
				if err != nil {
					return d, err
				}
				d.annotations = append(d.annotations, list...)
				break
			}
			return d, fmt.Errorf("%q is not known in this version; there are type, dest, name, push, tar, rewrite-timestamp and annotation.KEY", key)
		}
	}
	switch d.kind {
	case "registry":
		d.kind, d.push = "image", true
	case "local":
		if d.dest == "" {
			return d, fmt.Errorf("type=%s needs dest=PATH", d.kind)
		}
	case "tar", "oci":
		if d.dest == "" {
			d.dest = "-"
		}
	case "image", "docker":
	default:
		return d, fmt.Errorf("type %q is not local, tar, oci, docker, image or registry", d.kind)
	}
	if d.directory && (d.kind != "oci" || d.dest == "-") {
		return d, errors.New("tar=false is a directory with an OCI layout: it needs type=oci and dest=DIR")
	}
	return d, nil
}

// written is what the destinations got.
type written struct {
	id     string        // of the one image, 64 hex digits; "" for several, or files alone
	names  []string      // of the last destination that has any
	digest string        // of the manifest or the index
	top    build.Written // of what was written as an OCI layout
}

// outputAnnotation turns annotation[-PLACE][[PLATFORM]].KEY into what --annotation has: PLACE[[PLATFORM]]:KEY.
func outputAnnotation(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, "annotation")
	where, name, dotted := strings.Cut(rest, ".")
	if !ok || !dotted || name == "" || where != "" && where[0] != '-' && where[0] != '[' {
		return "", false
	}
	if where = strings.TrimPrefix(where, "-"); where == "" || where[0] == '[' {
		where = build.OnManifest + where
	}
	return where + ":" + name, true
}

// writeBuilt writes all destinations and tells the image's id.
func writeBuilt(c *cli.Context, s *storage.Store, records *record.Store, b *build.Built, list []destination) error {
	if len(b.Images) == 0 {
		code, err := b.WriteAnswer(c.App.Writer, strings.HasSuffix(c.String("call"), "format=json"))
		if err == nil && code != 0 {
			err = exitCode(code)
		}
		return err
	}
	var w written
	for _, d := range list {
		var err error
		switch d.kind {
		case "local":
			err = b.Local(c.Context, d.dest)
		case "tar":
			err = toFile(c, d.dest, func(f *os.File) error { return b.Tar(c.Context, f) })
		case "oci", "docker":
			if d.dest != "" {
				err = w.archive(c, s, b, d)
				break
			}
			fallthrough
		default:
			if b.Indexed() {
				err = w.push(c, s, b, d)
			} else {
				err = w.store(c, s, records, b, d)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := buildFiles(c, s, w); err != nil {
		return err
	}
	told := "sha256:" + w.id
	if w.id == "" {
		told = w.digest
	}
	if told == "" {
		return nil
	}
	for _, d := range list {
		if d.dest == "-" {
			return nil // standard output is the archive's
		}
	}
	_, err := fmt.Fprintln(c.App.Writer, told)
	return err
}

// store writes to the store, and from there to registries.
func (w *written) store(c *cli.Context, s *storage.Store, records *record.Store, b *build.Built, d destination) (err error) {
	if w.id, err = b.Store(c.Context, d.annotations, d.names...); err != nil {
		return err
	}
	w.names = d.names
	emitImage(records, "build", w.id, d.names)
	if !d.push {
		return nil
	}
	for _, name := range d.names {
		done, err := pull.Push(c.Context, s, name, "", pull.PushOptions{Access: accessOf(c)})
		if err != nil {
			return err
		}
		w.digest = done.Digest
	}
	return nil
}

// layout writes an OCI layout to a directory of its own, which the caller removes, also after an error ("" when there is none).
func (w *written) layout(c *cli.Context, s *storage.Store, b *build.Built, d destination) (string, error) {
	dir, err := os.MkdirTemp(s.Scratch(), "layout-")
	if err != nil {
		return "", err
	}
	done, err := b.Layout(c.Context, dir, d.annotations, d.names...)
	if err != nil {
		return dir, err
	}
	w.wrote(done, d)
	return dir, nil
}

// push writes to registries what the store has no room for.
func (w *written) push(c *cli.Context, s *storage.Store, b *build.Built, d destination) error {
	dir, err := w.layout(c, s, b, d)
	defer os.RemoveAll(dir) //nolint:errcheck // the scratch directory goes anyway
	if err != nil {
		return err
	}
	for _, name := range d.names {
		if _, err := pull.PushLayout(c.Context, s, dir, name, pull.PushOptions{Access: accessOf(c)}); err != nil {
			return err
		}
	}
	return nil
}

// archive writes an OCI or Docker archive. Nothing of it comes into the store.
func (w *written) archive(c *cli.Context, s *storage.Store, b *build.Built, d destination) error {
	if d.directory {
		return w.directory(c, b, d)
	}
	dir, err := w.layout(c, s, b, d)
	defer os.RemoveAll(dir) //nolint:errcheck // the scratch directory goes anyway
	if err != nil {
		return err
	}
	return toFile(c, d.dest, func(f *os.File) error {
		if d.kind == "oci" {
			return pull.ArchiveLayout(c.Context, f, dir)
		}
		return pull.DockerArchive(c.Context, s, f, dir, d.names)
	})
}

// directory writes an OCI layout where the user wants it, which is new or empty: what another build left there is not this one's to change.
func (w *written) directory(c *cli.Context, b *build.Built, d destination) error {
	if list, err := os.ReadDir(d.dest); err == nil && len(list) > 0 {
		return fmt.Errorf("cannot write an OCI layout to %s: the directory is not empty", d.dest)
	}
	if err := os.MkdirAll(d.dest, 0o755); err != nil {
		return fmt.Errorf("cannot write an OCI layout: %w", err)
	}
	done, err := b.Layout(c.Context, d.dest, d.annotations, d.names...)
	w.wrote(done, d)
	return err
}

// wrote notes what was written as an OCI layout.
func (w *written) wrote(done build.Written, d destination) {
	w.id, w.names, w.top = strings.TrimPrefix(done.Config, "sha256:"), d.names, done
	w.digest = done.Top.Digest.String()
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
func buildFiles(c *cli.Context, s *storage.Store, w written) error {
	id, names := w.id, w.names
	told := "sha256:" + id
	if id == "" {
		told = w.digest
	}
	if path := c.String("iidfile"); path != "" && told != "" {
		if err := disk.WriteFile(path, []byte(told), 0o644, disk.Volatile); err != nil {
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
	}
	top := w.top.Top
	if top.Digest == "" && id != "" {
		var err error
		if top, err = build.Manifest(s, id); err != nil {
			return err
		}
	}
	if w.digest == "" {
		w.digest = top.Digest.String()
	}
	if w.digest != "" {
		facts["containerimage.digest"] = w.digest
	}
	if top.Digest != "" && top.Digest.String() == w.digest { // a registry may have got another form of it
		facts["containerimage.descriptor"] = top
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
