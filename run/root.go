package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// Root is a container's root directory with its volumes and bind mounts: a running container's own, or one put together for a container
// that does not run.
type Root struct {
	File    *os.File // an O_PATH descriptor; everything is opened beneath it (disk.OpenBeneath)
	Running bool

	host    *Host
	id      string
	mounted *layer.Mounted
	alive   *disk.Lock
}

// OpenRoot opens a container's root. The caller is inside the user namespace, in a mount namespace of its own. A container that does not run cannot be
// started until Close: its layer must not be mounted twice.
func (h *Host) OpenRoot(ctx context.Context, c *record.Container) (*Root, error) {
	for start := time.Now(); ; {
		st, err := h.Records.Status(c.ID)
		if err != nil {
			return nil, err
		}
		if st.State == record.Running || st.State == record.Paused {
			r, err := h.runningRoot(c, st)
			if r != nil || err != nil {
				return r, err
			}
		} else {
			lock, err := h.Records.ClaimVisit(c.ID)
			if err == nil {
				h.killLeftovers(c.ID)
				if err := endGroups(h.Records, c.ID); err != nil {
					return nil, errors.Join(err, lock.Unlock())
				}
				return h.stoppedRoot(ctx, c, lock)
			}
			if !errors.Is(err, disk.ErrLocked) {
				return nil, err
			}
		}
		if time.Since(start) > defaultStopTimeout {
			return nil, fmt.Errorf("cannot open the files of container %s: another command is starting it or has its files open", c.Name)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// runningRoot opens the root of the first process. It is nil when that has ended meanwhile: a pid may be somebody else's by then, so the lock is asked again
// when the descriptor is open.
func (h *Host) runningRoot(c *record.Container, st record.Status) (*Root, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", st.Started.Pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	now, statusErr := h.Records.Status(c.ID)
	if statusErr != nil || now.Started == nil || now.Started.Life != st.Started.Life || now.State != record.Running && now.State != record.Paused {
		if err == nil {
			f.Close()
		}
		return nil, statusErr
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ESRCH) {
		return nil, nil // it is ending: its memory or all of it has gone, and its monitor has not said so yet
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the files of container %s: %w", c.Name, err)
	}
	return &Root{File: f, Running: true}, nil
}

// stoppedRoot mounts the container's layer.
func (h *Host) stoppedRoot(ctx context.Context, c *record.Container, lock *disk.Lock) (*Root, error) {
	r := &Root{host: h, id: c.ID, alive: lock}
	if err := r.mount(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the files of container %s: %w", c.Name, err), r.Close())
	}
	return r, nil
}

func (r *Root) mount(ctx context.Context, c *record.Container) error {
	img, err := r.host.Images.Load(c.ImageID)
	if err != nil {
		return err
	}
	dir := r.host.Records.Dir(c.ID)
	target := filepath.Join(dir, record.Bundle, "rootfs")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	kind, _, err := layer.Choose(ctx, r.host.Records.Data, layer.Kind(c.Layer))
	if err != nil {
		return err
	}
	if r.mounted, err = layer.Mount(ctx, layer.Options{Kind: kind, Lower: img.Layers, Dir: filepath.Join(dir, record.Layer), Target: target}); err != nil {
		return err
	}
	r.File = r.mounted.Root
	if r.mounted.Detached {
		// Volumes can be mounted beneath what is itself mounted somewhere; here that is seen by nobody else.
		if err := unix.MoveMount(int(r.File.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return err
		}
	}
	return r.volumes(c)
}

// volumes mounts volumes and bind sources at their places, as far as those are there; what a first start would make is made then.
func (r *Root) volumes(c *record.Container) error {
	used := map[string]string{}
	for _, use := range c.Volumes {
		v, err := r.host.Volumes.Find(use.Name)
		if errors.Is(err, volume.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		used[filepath.Clean(use.Target)] = v.Source()
	}
	mounts := c.Config.Mounts
	for target := range used { // anonymous ones of the image
		if !has(mounts, target) {
			mounts = append(mounts[:len(mounts):len(mounts)], config.Mount{Type: config.MountVolume, Target: target})
		}
	}
	for _, m := range mounts {
		source := m.Source
		switch m.Type {
		case config.MountVolume:
			if source = used[filepath.Clean(m.Target)]; source == "" {
				continue
			}
		case config.MountBind:
		default:
			continue
		}
		if err := r.bind(source, m); err != nil {
			return fmt.Errorf("%s at %s: %w", source, m.Target, err)
		}
	}
	return nil
}

func has(mounts []config.Mount, target string) bool {
	for _, m := range mounts {
		if filepath.Clean(m.Target) == target {
			return true
		}
	}
	return false
}

func (r *Root) bind(source string, m config.Mount) error {
	at, err := disk.OpenBeneath(r.File, m.Target, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) && m.Type == config.MountVolume {
		at, err = disk.MkdirAllBeneath(r.File, m.Target, 0o755)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	from, err := os.OpenFile(source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	if m.Subpath != "" {
		sub, err := disk.OpenBeneath(from, m.Subpath, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer sub.Close()
		from = sub
	}
	tree, err := unix.OpenTree(int(from.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if m.ReadOnly {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return err
		}
	}
	return unix.MoveMount(tree, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// awaitFiles waits while a container that does not run is locked: somebody copies its files, or its last life is just ending. It is ErrRunning when it runs.
func (h *Host) awaitFiles(ctx context.Context, c *record.Container) error {
	for start := time.Now(); ; {
		alive, err := h.Records.Alive(c.ID)
		if err != nil || !alive {
			return err
		}
		st, err := h.Records.Status(c.ID)
		if err != nil {
			return err
		}
		if st.State == record.Running || st.State == record.Paused {
			return fmt.Errorf("%w: %s", ErrRunning, c.Name)
		}
		if time.Since(start) > defaultStopTimeout {
			return fmt.Errorf("cannot start container %s: another command is starting it or has its files open: try again", c.Name)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Close lets the container go.
func (r *Root) Close() error {
	if r.Running {
		return r.File.Close()
	}
	var errs []error
	if r.mounted != nil {
		errs = append(errs, r.mounted.Close())
	}
	return errors.Join(append(errs, r.host.Records.Release(r.id), r.alive.Unlock())...)
}
