package ops

// This file gives commands the devices of RUN --device and build --device.

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/skiff-containers/skiff/run/cdi"
	"github.com/skiff-containers/skiff/run/config"
)

// deviceEdits are what the command's devices of the Container Device Interface need. A device that the Dockerfile asks for is given when the user allows it; one that is not there, and need not
// be, is left out.
func (o *execOp) deviceEdits() (config.DeviceEdits, error) {
	var none config.DeviceEdits
	if len(o.env.CDI)+len(o.op.CdiDevices) == 0 {
		return none, nil
	}
	devices, err := cdi.Open(cdi.Dirs(os.Getenv))
	if err != nil {
		return none, err
	}
	var names []string
	for _, word := range o.env.CDI {
		found, err := devices.Find(word)
		if err != nil {
			return none, err
		}
		names = append(names, found...)
	}
	for _, d := range o.op.CdiDevices {
		found, err := devices.Find(d.Name)
		var missing *cdi.NotFoundError
		if errors.As(err, &missing) && d.Optional {
			continue
		}
		if err != nil {
			return none, err
		}
		for _, name := range found {
			if !o.env.deviceAllowed(name) {
				return none, fmt.Errorf("cannot run with --device=%s: it is not allowed; give --allow device=%s, or --allow device for all", d.Name, name)
			}
		}
		names = append(names, found...)
	}
	return devices.Edits(names)
}

// deviceAllowed says whether a Dockerfile may ask for a device.
func (e *Env) deviceAllowed(name string) bool {
	kind, _, _ := strings.Cut(name, "=")
	return slices.ContainsFunc(e.AllowDevices, func(a string) bool { return a == "*" || a == name || a == kind || a == kind+"=*" })
}
