package pull

// This file makes an image of a container: its image's layers, and one of what the container changed.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage"
)

// CommitOptions of Commit.
type CommitOptions struct {
	ImageID string        // what the container was made of
	Upper   string        // the directory of its changes
	Config  config.Config // what was asked of it: the image inherits that
	Author  string
	Message string
	Changes []string // Dockerfile instructions for the configuration
	Name    string   // "" is none
}

// Commit writes the image and returns its id. When ctx ends before all changes are read nothing is written: the container may go on since.
func Commit(ctx context.Context, s *storage.Store, o CommitOptions) (string, error) {
	unlock, err := s.Writing()
	if err != nil {
		return "", err
	}
	defer unlock() //nolint:errcheck // closes a descriptor
	raw, err := s.Library().ImageBigData(o.ImageID, "sha256:"+o.ImageID)
	if err != nil {
		return "", fmt.Errorf("cannot read the container's image: %w", err)
	}
	layers, err := s.ImageLayers(o.ImageID)
	if err != nil {
		return "", err
	}
	doc := map[string]json.RawMessage{}
	var parts imageConfig
	if err = errors.Join(json.Unmarshal(raw, &doc), json.Unmarshal(raw, &parts)); err != nil {
		return "", fmt.Errorf("cannot read the configuration of the container's image: %w", err)
	}
	parts.Config.inherit(o.Config)
	for _, change := range o.Changes {
		if err = parts.Config.apply(change); err != nil {
			return "", err
		}
	}
	parent := ""
	if n := len(layers); n > 0 {
		parent = layers[n-1].ID
	}
	layer, err := putDirectory(ctx, s, parent, o.Upper, files.StageOptions{})
	if err != nil {
		return "", err
	}
	layers = append(layers, layer)
	config, err := committed(doc, parts, layers, o)
	if err != nil {
		return "", err
	}
	var names []string
	if o.Name != "" {
		names = []string{o.Name}
	}
	return s.PutImage(layers, config, names...)
}

// PutDirectory makes a layer over parent ("" for a first one) of an upper directory.
func PutDirectory(s *storage.Store, parent, upper string, o files.StageOptions) (storage.Layer, error) {
	return putDirectory(context.Background(), s, parent, upper, o)
}

// putDirectory does it unless ctx has ended when all is read.
func putDirectory(ctx context.Context, s *storage.Store, parent, upper string, o files.StageOptions) (storage.Layer, error) {
	root, err := os.Open(upper)
	if err != nil {
		return storage.Layer{}, fmt.Errorf("cannot read the changes of a layer: %w", err)
	}
	defer root.Close() // only read from
	return s.PutFiles(parent, func(dir *os.File) (storage.Filled, error) {
		made, err := files.Stage(dir, root, s.Scratch(), o)
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return storage.Filled(made), err
	})
}

// inherit takes over what was asked of a container.
func (c *containerConfig) inherit(asked config.Config) {
	for _, e := range asked.Env {
		if k, v, ok := strings.Cut(e, "="); ok {
			c.Env = setVariable(c.Env, k, v)
		}
	}
	c.Env = slices.DeleteFunc(c.Env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(asked.UnsetEnv, name)
	})
	if len(asked.Entrypoint) > 0 || asked.ClearEntrypoint {
		c.Entrypoint, c.Cmd = asked.Entrypoint, nil
	}
	if len(asked.Command) > 0 {
		c.Cmd = asked.Command
	}
	if asked.User != "" {
		c.User = asked.User
	}
	if asked.Workdir != "" {
		c.WorkingDir = asked.Workdir
	}
	if asked.StopSignal != "" {
		c.StopSignal = asked.StopSignal
	}
	for k, v := range asked.Labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[k] = v
	}
}

// committed writes the configuration: what the image says that we do not know stays as it is.
func committed(doc map[string]json.RawMessage, parts imageConfig, layers []storage.Layer, o CommitOptions) ([]byte, error) {
	now := time.Now().UTC()
	var lines []json.RawMessage
	if old := doc["history"]; old != nil {
		if err := json.Unmarshal(old, &lines); err != nil {
			return nil, fmt.Errorf("cannot read the history of the container's image: %w", err)
		}
	}
	line := map[string]any{"created": now, "created_by": strings.Join(o.Config.Command, " ")}
	if o.Author != "" {
		line["author"] = o.Author
	}
	if o.Message != "" {
		line["comment"] = o.Message
	}
	text, err := json.Marshal(line)
	if err != nil {
		return nil, err
	}
	diffs := make([]string, len(layers))
	for i, l := range layers {
		diffs[i] = l.DiffID
	}
	set := map[string]any{
		"created": now, "config": parts.Config, "history": append(lines, text), "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}
	if o.Author != "" {
		set["author"] = o.Author
	}
	for k, v := range set {
		if doc[k], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	return json.Marshal(doc)
}
