// Package layer is containers' writable layers over an image's directories: which kind of union mount this
// machine and file system can do, and making, mounting and deleting one.
//
// All of it runs inside the user's user namespace, in a mount namespace of its own.
package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Kind is how a layer is mounted.
type Kind string

// The kinds. VFS copies the image and is used only when asked for.
const (
	Overlay Kind = "overlay"
	Fuse    Kind = "fuse-overlayfs"
	VFS     Kind = "vfs"
)

// kindFile keeps the answer of the probe: the kind, a newline, and why.
const kindFile = "layer-kind"

// Choose says which kind the data directory gets: asked (when not empty), or the answer of an earlier probe, or a probe: a real
// overlay mount there, then fuse-overlayfs. why is one sentence, kept with the answer. It fails when neither works, with both reasons.
func Choose(ctx context.Context, data string, asked Kind) (kind Kind, why string, err error) {
	switch asked {
	case Overlay, Fuse, VFS:
		return asked, "asked for", nil
	case "":
	default:
		return "", "", fmt.Errorf("unknown storage driver %q: it is one of overlay, fuse-overlayfs and vfs", asked)
	}
	boot, err := disk.BootID()
	if err != nil {
		return "", "", fmt.Errorf("cannot choose a storage driver: %w", err)
	}
	if text, err := os.ReadFile(filepath.Join(data, kindFile)); err == nil {
		// What could not be done before a reboot may work after it: another kernel, another mount.
		if f := strings.Split(strings.TrimSpace(string(text)), "\n"); len(f) == 3 && (Kind(f[0]) == Overlay || Kind(f[0]) == Fuse && f[2] == boot) {
			return Kind(f[0]), f[1], nil
		}
	}
	overlayErr := probe(ctx, data, Overlay)
	kind, why = Overlay, "the kernel and the file system of the data directory can do it"
	if overlayErr != nil {
		kind, why = Fuse, "the kernel's overlay cannot be used: "+overlayErr.Error()
		if fuseErr := probe(ctx, data, Fuse); fuseErr != nil {
			return "", "", fmt.Errorf("cannot mount container layers in %s: the kernel's overlay: %w; fuse-overlayfs: %w; "+
				"put the data directory on a file system that overlay works on (--root; inside a container, a volume), install fuse-overlayfs (`sudo apt install fuse-overlayfs`), or take plain copies (--storage-driver vfs)", data, overlayErr, fuseErr)
		}
	}
	return kind, why, disk.WriteFile(filepath.Join(data, kindFile), []byte(string(kind)+"\n"+why+"\n"+boot+"\n"), 0o600, disk.Durable)
}

// probe makes a layer of the kind in the data directory, writes through it, and removes it again.
func probe(ctx context.Context, data string, kind Kind) (err error) {
	dir, err := os.MkdirTemp(data, "tmp-probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Delete(dir)) }()
	lower, target := filepath.Join(dir, "lower"), filepath.Join(dir, "rootfs")
	for _, d := range []string{lower, target, filepath.Join(lower, "d")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	m, err := Mount(ctx, Options{Kind: kind, Lower: []string{lower}, Dir: filepath.Join(dir, "layer"), Target: target})
	if err != nil {
		return err
	}
	// Removing a directory of the lower layer makes a whiteout, the thing that some file systems refuse.
	fd := int(m.Root.Fd())
	err = unix.Unlinkat(fd, "d", unix.AT_REMOVEDIR)
	if err == nil {
		err = unix.Mkdirat(fd, "d", 0o755)
	}
	return errors.Join(err, m.Close())
}

// Options of one mount.
type Options struct {
	Kind  Kind
	Lower []string // top first, absolute
	// Dir is the container's layer directory: upper and work, or the copy, are made in it.
	Dir string
	// Target is an existing directory to mount at when Kind needs one; Overlay makes a detached mount instead.
	Target   string
	Volatile bool // for --rm: nothing is synced at unmount, and the layer cannot be mounted again without Renew
}

// Mounted is a mounted layer.
type Mounted struct {
	Root *os.File // a detached mount (fsmount(2)), or a directory of one at Target
	// Detached says that Root is a detached mount, which belongs to whoever moves it somewhere.
	Detached bool
	Helper   *os.Process // fuse-overlayfs; nil otherwise
	ended    <-chan error
	target   string
}

// Mount mounts the layer in the calling process's mount namespace.
func Mount(ctx context.Context, o Options) (*Mounted, error) {
	if len(o.Lower) == 0 {
		// An image without layers (FROM scratch): overlay wants at least one directory.
		empty := filepath.Join(o.Dir, "empty")
		if err := os.MkdirAll(empty, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make the layer: %w", err)
		}
		o.Lower = []string{empty}
	}
	if err := makeUpper(o); err != nil {
		return nil, fmt.Errorf("cannot make the layer: %w", err)
	}
	switch o.Kind {
	case Overlay:
		return mountOverlay(o)
	case Fuse:
		return mountFuse(ctx, o)
	case VFS:
		return mountCopy(o)
	}
	return nil, fmt.Errorf("cannot mount the layer: unknown kind %q", o.Kind)
}

// Renew lets a volatile layer be mounted once more, by whoever has unmounted it in good order on a machine that has been up since: what is not on the disk is in memory
// then. The kernel refuses it for a directory that it made at the first mount (overlayfs.rst, "Volatile mount").
func Renew(dir string) error {
	if err := os.RemoveAll(filepath.Join(Options{Dir: dir}.work(), "work/incompat/volatile")); err != nil {
		return fmt.Errorf("cannot mount the layer again: %w", err)
	}
	return nil
}

func (o Options) upper() string { return filepath.Join(o.Dir, "upper") }
func (o Options) work() string  { return filepath.Join(o.Dir, "work") }

// makeUpper makes upper and work. The root directory of the container has the owner and mode of the topmost layer's.
func makeUpper(o Options) error {
	if o.Kind == VFS {
		return os.MkdirAll(o.Dir, 0o700)
	}
	if _, err := os.Stat(o.work()); err == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(o.Lower[0], &st); err != nil {
		return fmt.Errorf("the image's layer %s: %w; pull the image again", o.Lower[0], err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(o.upper(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if st.Uid != 0 || st.Gid != 0 {
		if err := os.Chown(o.upper(), int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Chmod(o.upper(), st.Mode&0o7777); err != nil {
		return err
	}
	return os.Mkdir(o.work(), 0o700) // last: it says that the rest is done
}

// Close unmounts, ends the helper and closes Root. A detached mount that was moved into a container went with the container's mount namespace.
func (m *Mounted) Close() error {
	err := m.Root.Close()
	if m.Helper != nil {
		err = errors.Join(err, m.unmount())
	}
	if err != nil {
		return fmt.Errorf("cannot unmount the layer: %w", err)
	}
	return nil
}
