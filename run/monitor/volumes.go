package monitor

import (
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
		if !mount.NoCopy && mount.Subpath == "" {
			if err := fill(set, v, root, use.Target); err != nil {
				return nil, fmt.Errorf("cannot fill volume %s from the image: %w", use.Name, err)
			}
		}
		dir := v.Mountpoint
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
	if err := copyTree(from, to, 0); err != nil {
		return err
	}
	return set.MarkFilled(v.Name)
}

// maxDepth bounds directories within directories in an image.
const maxDepth = 256

// copyTree copies the content and the attributes of one directory to another, by descriptor.
func copyTree(from, to *os.File, depth int) error {
	if depth > maxDepth {
		return errors.New("directories are nested too deeply")
	}
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	src, dst := int(from.Fd()), int(to.Fd())
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := copyEntry(src, dst, name, &st, depth); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := errors.Join(unix.Fchown(dst, int(st.Uid), int(st.Gid)), unix.Fchmod(dst, st.Mode&0o7777)); err != nil {
		return err
	}
	return futimes(to, &st)
}

func copyEntry(src, dst int, name string, st *unix.Stat_t, depth int) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(dst, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		a, err := openAt(src, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := openAt(dst, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer b.Close()
		return copyTree(a, b, depth+1)
	case unix.S_IFREG:
		a, err := openAt(src, name, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := openAt(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
		if err != nil {
			return err
		}
		_, err = b.ReadFrom(a)
		err = errors.Join(err, unix.Fchown(int(b.Fd()), int(st.Uid), int(st.Gid)), unix.Fchmod(int(b.Fd()), st.Mode&0o7777), futimes(b, st))
		return errors.Join(err, b.Close())
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(src, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), dst, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFIFO:
		if err := unix.Mknodat(dst, name, st.Mode, 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		return unix.Fchownat(dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil // devices cannot be made, sockets mean nothing without their process
}

func openAt(dir int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func futimes(f *os.File, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), []unix.Timespec{st.Atim, st.Mtim}, 0)
}
