package commands

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// hostOf opens the user's containers, images and volumes where the global flags say they are.
func hostOf(c *cli.Context) (*run.Host, error) {
	p := programOf(c)
	if p.host != nil {
		return p.host, nil
	}
	records, err := recordsOf(c)
	if err != nil {
		return nil, err
	}
	return hostAt(records, p.life, p.streams.Err)
}

// hostAt is the host whose state is in records; warnings go to messages.
func hostAt(records *record.Store, life Life, messages io.Writer) (*run.Host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find skiff's own executable: %w", err)
	}
	return &run.Host{
		Records: records,
		Images:  image.Open(records.Data),
		Volumes: volume.Open(records.Data),
		Program: self,
		Engine:  enginePath,
		Inside:  life != Front,
		Warn:    func(text string) { warn(messages, text) },
	}, nil
}

// warn prints what a command went on without.
func warn(to io.Writer, text string) { fmt.Fprintln(to, "WARNING: "+text) }

// recordsOf opens the user's two state directories alone.
func recordsOf(c *cli.Context) (*record.Store, error) {
	return record.Open(record.Options{
		Root: c.String("root"), RunRoot: c.String("runroot"),
		Getenv: os.Getenv, Getuid: os.Getuid,
	})
}

// eachOperand calls f for every operand and goes on after a failure: the others are done, and all errors are reported.
func eachOperand(c *cli.Context, f func(name string) error) error {
	var errs []error
	for _, name := range c.Args().Slice() {
		if err := f(name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// eachContainer is eachOperand for names and ids of containers; it prints what the user typed when done, as Docker does.
func eachContainer(c *cli.Context, f func(h *run.Host, t run.Container) error) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	return eachOperand(c, func(name string) error {
		t, err := h.Find(c.Context, name)
		if err != nil {
			return err
		}
		if err := f(h, t); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.App.Writer, name)
		return err
	})
}
