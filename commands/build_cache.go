//go:build !front

package commands

// This file reads --cache-from and --cache-to.

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
	"github.com/skiff-containers/skiff/storage/ref"
)

// cacheOptions reads both.
func cacheOptions(c *cli.Context, o *build.Options) error {
	for _, text := range listOf(c, "cache-from") {
		from, err := parseCacheFrom(text)
		if err != nil {
			return fmt.Errorf("cannot use --cache-from %s: %w", text, err)
		}
		o.CacheFrom = append(o.CacheFrom, from)
	}
	for _, text := range listOf(c, "cache-to") {
		to, err := parseCacheTo(text)
		if err != nil {
			return fmt.Errorf("cannot use --cache-to %s: %w", text, err)
		}
		if to.Inline && o.Squash {
			return errors.New("cannot use --cache-to type=inline with --squash: the image has not the layers of its steps")
		}
		o.CacheTo = append(o.CacheTo, to)
	}
	return nil
}

// cacheFields takes type=...,KEY=VALUE... apart. A name alone is a registry's.
func cacheFields(text string, known ...string) (map[string]string, error) {
	if !strings.Contains(text, "=") {
		return map[string]string{"type": "registry", "ref": text}, nil
	}
	fields := map[string]string{}
	for _, field := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		if key != "type" && !slices.Contains(known, key) {
			return nil, fmt.Errorf("%q is not known; there are type, %s", key, strings.Join(known, ", "))
		}
		fields[key] = value
	}
	switch kind := fields["type"]; kind {
	case "local", "registry", "inline":
	case "":
		return nil, errors.New("it has no type=")
	case "gha", "s3", "azblob":
		return nil, fmt.Errorf("caches of type %s are not kept in this version; there are local, registry and inline", kind)
	default:
		return nil, fmt.Errorf("type %q is not local, registry or inline", kind)
	}
	if name := fields["ref"]; name != "" {
		if _, err := ref.Parse(name); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

func parseCacheFrom(text string) (from build.CacheFrom, err error) {
	f, err := cacheFields(text, "ref", "src", "tag", "digest")
	if err != nil {
		return from, err
	}
	from = build.CacheFrom{Ref: f["ref"], Dir: f["src"], Tag: f["tag"], Digest: f["digest"]}
	switch kind := f["type"]; {
	case kind == "inline":
		return from, errors.New("a cache in an image is read with type=registry,ref=IMAGE")
	case kind == "registry" && (from.Ref == "" || from.Dir != ""):
		return from, errors.New("type=registry needs ref=NAME and nothing else")
	case kind == "local" && (from.Dir == "" || from.Ref != ""):
		return from, errors.New("type=local needs src=DIR")
	}
	return from, nil
}

func parseCacheTo(text string) (to build.CacheTo, err error) {
	f, err := cacheFields(text, "ref", "dest", "tag", "mode", "ignore-error", "image-manifest", "oci-mediatypes", "compression")
	if err != nil {
		return to, err
	}
	to = build.CacheTo{Ref: f["ref"], Dir: f["dest"], Tag: f["tag"], Inline: f["type"] == "inline", Max: f["mode"] == "max"}
	if m := f["mode"]; m != "" && m != "min" && m != "max" {
		return to, fmt.Errorf("mode %q is not min or max", m)
	}
	for _, key := range []string{"image-manifest", "oci-mediatypes"} {
		if v, ok := f[key]; ok && v != "true" {
			return to, fmt.Errorf("%s=%s is not written in this version: a cache is an OCI image manifest", key, v)
		}
	}
	if v := f["compression"]; v != "" && v != "gzip" {
		return to, fmt.Errorf("compression %q is not written in this version: layers are compressed with gzip", v)
	}
	if v := f["ignore-error"]; v != "" {
		if to.IgnoreError, err = strconv.ParseBool(v); err != nil {
			return to, fmt.Errorf("ignore-error=%s is neither true nor false", v)
		}
	}
	switch kind := f["type"]; {
	case kind == "inline" && (to.Ref != "" || to.Dir != ""):
		return to, errors.New("type=inline goes where the image goes")
	case kind == "inline" && to.Max:
		return to, errors.New("type=inline has the steps that the image's layers are of: mode=max needs a cache of its own (type=registry or local)")
	case kind == "registry" && (to.Ref == "" || to.Dir != ""):
		return to, errors.New("type=registry needs ref=NAME")
	case kind == "local" && (to.Dir == "" || to.Ref != ""):
		return to, errors.New("type=local needs dest=DIR")
	}
	return to, nil
}
