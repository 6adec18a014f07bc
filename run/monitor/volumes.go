package monitor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// volumes gives the directory of each volume the container uses, by target. New ones are filled with what the image has at the target.
func (m *monitor) volumes(root *os.File) (map[string]string, error) {
	set := volume.Open(m.store.Data)
	dirs := make(map[string]string)
	for _, use := range m.record.Volumes {
		v, err := set.Find(use.Name)
		if errors.Is(err, volume.ErrNotFound) {
			v, _, err = set.Create(volume.Volume{Name: use.Name}) // removed by hand since the container was created
		}
		if err != nil {
			return nil, err
		}
		mount := m.mountAt(use)
		if !mount.NoCopy && mount.Subpath == "" && !v.Bound() {
			if err := fill(set, v, root, use.Target); err != nil {
				return nil, fmt.Errorf("cannot fill volume %s from the image: %w", use.Name, err)
			}
		}
		dir := v.Source()
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("cannot use volume %s: its directory %s: %w", use.Name, dir, cmp.Or(errors.Unwrap(err), error(unix.ENOTDIR)))
		}
		if mount.Subpath != "" {
			data, err := os.Open(dir)
			if err != nil {
				return nil, fmt.Errorf("cannot open volume %s: %w", use.Name, err)
			}
			sub, err := disk.OpenBeneath(data, mount.Subpath, unix.O_PATH, 0)
			data.Close()
			if err != nil {
				return nil, fmt.Errorf("cannot open %s in volume %s: %w", mount.Subpath, use.Name, err)
			}
			m.keep = append(m.keep, sub)
			dir = fmt.Sprintf("/proc/self/fd/%d", sub.Fd())
		}
		dirs[use.Target] = dir
	}
	return dirs, nil
}

func (m *monitor) mountAt(use record.VolumeUse) config.Mount {
	for _, mount := range m.record.Config.Mounts {
		if path.Clean(mount.Target) == use.Target {
			return mount
		}
	}
	return config.Mount{}
}

// fill copies the image's files at target into a volume that was never used, with owners, modes, times and attributes. Everything is opened beneath the root.
func fill(set *volume.Set, v *volume.Volume, root *os.File, target string) error {
	needs, err := set.NeedsCopy(v.Name)
	if err != nil || !needs {
		return err
	}
	lock, err := disk.WaitLock(filepath.Join(filepath.Dir(v.Mountpoint), "filling"), disk.Exclusive, nil)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if needs, err = set.NeedsCopy(v.Name); err != nil || !needs {
		return err
	}
	from, err := disk.OpenBeneath(root, target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return set.MarkFilled(v.Name)
	case err != nil:
		return err
	}
	defer from.Close()
	to, err := os.Open(v.Mountpoint)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := disk.CopyTree(from, to); err != nil {
		return err
	}
	return set.MarkFilled(v.Name)
}
