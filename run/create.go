package run

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/log"
	"github.com/skiff-containers/skiff/run/monitor"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/run/spec"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// Create records a container. Its image must be in the index (image.ErrNotFound otherwise); everything that can be refused now is.
func (h *Host) Create(_ context.Context, c config.Config, name string) (*record.Container, error) {
	r, _, err := h.create(c, name, false)
	return r, err
}

// CreateAhead is Create with the container's monitor started meanwhile, unless it has been before (l is not nil): for those who start the container at once. Launch.Start or
// Launch.Abort must follow; on errors l is aborted.
func (h *Host) CreateAhead(_ context.Context, c config.Config, name string, l *Launch) (*record.Container, *Launch, error) {
	if l != nil && l.starting == nil {
		l = nil // aborted
	}
	r, made, err := h.create(c, name, l == nil)
	if made != nil {
		l = made
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Abort())
	}
	return r, l, nil
}

func (h *Host) create(c config.Config, name string, ahead bool) (_ *record.Container, l *Launch, err error) {
	if _, err := log.ParseOptions(c.LogDriver, c.LogOptions); err != nil {
		return nil, l, err
	}
	if c.Runtime, err = runtimeOf(c); err != nil {
		return nil, l, err
	}
	if _, err := spec.CapabilitySet(c); err != nil {
		return nil, l, err
	}
	if err := h.checkNetworks(c); err != nil {
		return nil, nil, err
	}
	// Nobody removes the image between the look and the record.
	lock, err := h.Images.Lock(disk.Shared)
	if err != nil {
		return nil, l, err
	}
	defer lock.Unlock()
	id, _, err := h.Images.Resolve(c.Image)
	if err != nil {
		return nil, l, err
	}
	img, err := h.Images.Load(id)
	if err != nil {
		return nil, l, err
	}
	args, err := spec.Command(img, c)
	if err != nil {
		return nil, l, err
	}
	if c.StopSignal == "" {
		c.StopSignal = img.Config.Config.StopSignal
	}
	r := &record.Container{
		Version: record.Version, ID: record.NewID(), Name: name, Created: time.Now().UTC(), ImageID: id, ImageName: c.Image,
		Path: args[0], Args: args[1:], Layer: c.StorageDriver,
	}
	if ahead {
		if l, err = h.Launch(); err != nil {
			return nil, nil, err
		}
	}
	for _, share := range []*string{&c.Network, &c.Pid, &c.IPC} {
		if err := h.resolveShare(share); err != nil {
			return nil, l, err
		}
	}
	if err := h.inheritVolumes(&c); err != nil {
		return nil, l, err
	}
	for _, target := range declaredVolumes(img, c) {
		if target == "/" { // -v cannot name it either; Docker starts no container of such an image
			return nil, l, fmt.Errorf("cannot create a container of image %s: it declares a volume at /, over everything that it has; build it without that VOLUME", c.Image)
		}
		c.Mounts = append(c.Mounts, config.Mount{Type: config.MountVolume, Target: target})
	}
	r.Config = c
	p, err := h.Records.Begin(r)
	if err != nil {
		return nil, l, err
	}
	if err = h.makeVolumes(p); err == nil {
		err = p.Commit()
	}
	if err != nil {
		return nil, l, errors.Join(err, h.removeAnonymous(r), p.Abort())
	}
	h.emit(r, "create", nil)
	return r, l, nil
}

// runtimeOf checks --runtime: a file is remembered by its absolute path, since the monitor runs elsewhere.
func runtimeOf(c config.Config) (string, error) {
	rt, err := oci.For(c.Runtime)
	if err != nil {
		return "", err
	}
	x, other := rt.(oci.External)
	switch {
	case other && c.Init:
		return "", fmt.Errorf("cannot use --init with --runtime %s: the small init is part of skiff's own runtime", c.Runtime)
	case other && strings.HasPrefix(c.IPC, "container:"):
		return "", fmt.Errorf("cannot use --ipc %s with --runtime %s: sharing /dev/shm is part of skiff's own runtime", c.IPC, c.Runtime)
	case other && strings.Contains(c.Runtime, "/"):
		return x.Path, nil
	}
	return c.Runtime, nil
}

// checkNetworks refuses networks that are not there.
func (h *Host) checkNetworks(c config.Config) error {
	if helper, options := c.UserMode(); helper != "" {
		return monitor.CheckUserMode(helper, options)
	}
	if n, ok := c.NIC(); ok {
		return plug.CheckNIC(n)
	}
	if !c.Bridged() {
		return nil
	}
	networks := netns.Open(h.Records.Data, h.Records.Run)
	var on []*netns.Network
	for _, p := range c.Places {
		n, err := networks.Find(p.Network)
		if err != nil {
			return err
		}
		if n.Driver != netns.DriverBridge && n.Driver != netns.DriverMacvlan {
			return fmt.Errorf("cannot connect to network %s: its driver is %s", p.Network, n.Driver)
		}
		for _, o := range on {
			if err := o.Apart(n); err != nil {
				return err
			}
		}
		on = append(on, n)
	}
	return nil
}

// resolveShare turns container:NAME into container:ID, so that renaming changes nothing.
func (h *Host) resolveShare(value *string) error {
	const prefix = "container:"
	if len(*value) <= len(prefix) || (*value)[:len(prefix)] != prefix {
		return nil
	}
	other, err := h.Records.Find((*value)[len(prefix):])
	if err != nil {
		return err
	}
	*value = prefix + other.ID
	return nil
}

// inheritVolumes adds the mounts of --volumes-from containers.
func (h *Host) inheritVolumes(c *config.Config) error {
	for _, from := range c.VolumesFrom {
		name, mode, readOnly := from, "", false
		if i := strings.LastIndexByte(from, ':'); i >= 0 {
			name, mode = from[:i], from[i+1:]
		}
		for _, word := range strings.Split(mode, ",") {
			if !slices.Contains([]string{"", "ro", "rw", "z", "Z", "nocopy"}, word) {
				return fmt.Errorf("invalid --volumes-from %q: unknown mode %q: it is ro or rw", from, word)
			}
			readOnly = readOnly || word == "ro"
		}
		other, err := h.Records.Find(name)
		if err != nil {
			return fmt.Errorf("cannot take volumes from %s: %w", name, err)
		}
		for _, m := range other.Config.Mounts {
			if m.Type == config.MountTmpfs || slices.ContainsFunc(c.Mounts, func(o config.Mount) bool { return path.Clean(o.Target) == path.Clean(m.Target) }) {
				continue
			}
			for _, use := range other.Volumes {
				if use.Target == path.Clean(m.Target) {
					m.Source = use.Name
				}
			}
			m.ReadOnly = m.ReadOnly || readOnly
			c.Mounts = append(c.Mounts, m)
		}
	}
	return nil
}

// declaredVolumes are the image's VOLUMEs that the user has put nothing at.
func declaredVolumes(img *image.Image, c config.Config) []string {
	var targets []string
	for target := range img.Config.Config.Volumes {
		target = path.Join("/", target)
		if !slices.ContainsFunc(c.Mounts, func(m config.Mount) bool { return path.Clean(m.Target) == target }) {
			targets = append(targets, target)
		}
	}
	slices.Sort(targets)
	return targets
}

// makeVolumes makes the volumes that the container's mounts name, and anonymous ones.
func (h *Host) makeVolumes(p *record.Pending) error {
	var wanted []volume.Volume
	r := p.Container
	for _, m := range r.Config.Mounts {
		if m.Type != config.MountVolume {
			continue
		}
		v := volume.Volume{Name: m.Source, Driver: m.Driver, Labels: m.Labels, Options: m.DriverOptions}
		if v.Name == "" {
			v.Name, v.Anonymous = record.NewID(), true
			r.Anonymous = append(r.Anonymous, v.Name)
		}
		wanted = append(wanted, v)
		r.Volumes = append(r.Volumes, record.VolumeUse{Name: v.Name, Target: path.Clean(m.Target)})
	}
	if len(r.Anonymous) > 0 {
		if err := p.Promise(r.Anonymous); err != nil {
			return err
		}
	}
	for _, v := range wanted {
		made, created, err := h.Volumes.Create(v)
		if err != nil {
			return err
		}
		if created {
			_ = h.Records.Emit(record.Event{Type: "volume", Action: "create", ID: made.Name, Attributes: map[string]string{"driver": made.Driver}}) // it is there whether or not that can be told
		}
	}
	return nil
}

func (h *Host) removeAnonymous(r *record.Container) error {
	var errs []error
	for _, name := range r.Anonymous {
		if err := h.Volumes.Remove(name); err != nil && !errors.Is(err, volume.ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// emit records an event of a container. One that cannot be written stops nothing.
func (h *Host) emit(r *record.Container, action string, attributes map[string]string) {
	_ = h.Records.Emit(h.Records.ContainerEvent(r, action, attributes))
}
