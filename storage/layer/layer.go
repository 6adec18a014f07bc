// Package layer is containers' writable layers over an image's directories: which kind of union mount this
// machine and file system can do (kernel overlay, else fuse-overlayfs, never silently vfs), and making, mounting and deleting one. All of it runs inside the
// user's user namespace except Choose's cached answer.
package layer

import (
	"context"
	"os"
)

// Kind is how a layer is mounted.
type Kind string

// The kinds. VFS copies the image and is used only when asked for.
const (
	Overlay Kind = "overlay"
	Fuse    Kind = "fuse-overlayfs"
	VFS     Kind = "vfs"
)

// Choose says which kind the data directory gets: asked (when not empty), or the cached answer of an earlier probe in <data>/layer-kind, or a probe (a real
// userxattr overlay mount there, then fuse-overlayfs). why is one sentence, kept with the answer. It fails when neither works, naming both reasons and the fix.
func Choose(ctx context.Context, data string, asked Kind) (kind Kind, why string, err error) {
	panic("stub")
}

// Options of one mount.
type Options struct {
	Kind     Kind
	Lower    []string // top first
	Dir      string   // the container's layer directory: upper/, work/ (overlay), rootfs copy (vfs) are made in it
	Target   string   // an existing directory to mount at when Kind needs one (Fuse, VFS bind); "" allows a detached mount (Overlay)
	Volatile bool     // for --rm: no sync at unmount, never mounted again
	ReadOnly bool
}

// Mounted is a mounted layer.
type Mounted struct {
	Root     *os.File // a detached mount (fsmount(2)) or an O_PATH directory of Target
	Detached bool
	Helper   *os.Process // fuse-overlayfs, nil otherwise
}

// Mount mounts the layer in the calling process's mount namespace.
func Mount(ctx context.Context, o Options) (*Mounted, error) { panic("stub") }

// Close unmounts, ends the helper and closes Root.
func (m *Mounted) Close() error { panic("stub") }

// Delete removes a layer directory with everything subordinate ids own and work directories of mode 000. Inside the user namespace.
func Delete(dir string) error { panic("stub") }
