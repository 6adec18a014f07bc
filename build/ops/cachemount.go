package ops

// This file is --mount=type=cache: directories that outlive the build, shared with other builds as asked.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/storage/disk"
)

// cache binds a cache directory. Shared ones are everybody's at once; of a private one each command gets an own copy that nobody else
// uses meanwhile; a locked one is waited for.
func (m *mounts) cache(ctx context.Context, mount *pb.Mount) error {
	in, err := ref(m.inputs, mount.Input)
	if err != nil {
		return err
	}
	id := mount.CacheOpt.GetID()
	if id == "" {
		id = mount.Dest
	}
	key := sha256.Sum256([]byte(id + "\x00" + in.Key + "\x00" + mount.Selector))
	name := hex.EncodeToString(key[:16])
	for n := 0; ; n++ {
		dir := filepath.Join(m.op.env.Snap.Dir, "mounts", name)
		if n > 0 {
			dir += fmt.Sprintf("-%d", n)
		}
		mode := disk.Exclusive
		if mount.CacheOpt.GetSharing() == pb.CacheSharingOpt_SHARED {
			mode = disk.Shared
		}
		lock, err := disk.TryLock(dir+".lock", mode)
		if errors.Is(err, disk.ErrLocked) {
			if mount.CacheOpt.GetSharing() == pb.CacheSharingOpt_PRIVATE {
				continue // the next copy
			}
			if lock, err = waitCache(ctx, dir+".lock", mode); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		m.ends = append(m.ends, lock.Unlock)
		return m.cacheDir(ctx, mount, in, id, dir)
	}
}

// waitCache waits for a lock until the build is given up.
func waitCache(ctx context.Context, path string, mode disk.Mode) (*disk.Lock, error) {
	for {
		lock, err := disk.TryLock(path, mode)
		if !errors.Is(err, disk.ErrLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// cacheDir makes the directory the first time, as a copy of the input, and binds it.
func (m *mounts) cacheDir(ctx context.Context, mount *pb.Mount, in *Ref, id, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if err := m.fillCache(ctx, mount, in, id, dir); err != nil {
			return fmt.Errorf("cannot make the cache %s: %w", id, err)
		}
	}
	root, err := os.OpenFile(filepath.Join(dir, "files"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("cannot open the cache %s: %w", id, err)
	}
	defer root.Close() // nothing was written
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // when it was last used, for builder prune
	return m.attach(root, ".", mount.Dest, mount.Readonly)
}

// fillCache makes the directory beside its place and renames it: another command may do the same.
func (m *mounts) fillCache(ctx context.Context, mount *pb.Mount, in *Ref, id, dir string) error {
	tmp, err := os.MkdirTemp(m.op.env.Images.Scratch(), "cache-")
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(tmp, "files"), 0o755); err != nil {
		return err
	}
	if err := disk.WriteFile(filepath.Join(tmp, "id"), []byte(id), 0o600, disk.Volatile); err != nil {
		return err
	}
	if mount.Input >= 0 {
		src, err := m.op.env.Source(ctx, in)
		if err != nil {
			return err
		}
		root, err := os.OpenFile(filepath.Join(tmp, "files"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer root.Close() // nothing is buffered
		sel := files.Rel(mount.Selector)
		if err := files.Copy(ctx, src, root, "/", files.CopyOptions{Pick: files.Pick{Path: sel}, Contents: true}); err != nil {
			return err
		}
		st, err := files.Stat(src.Root, sel) // the input's directory says who may write (mode=, uid=, gid=)
		if err != nil {
			return err
		}
		if err := root.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
		if err := unix.Fchmod(int(root.Fd()), st.Mode&0o7777); err != nil {
			return err
		}
	}
	err = os.Rename(tmp, dir)
	if errors.Is(err, os.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return os.RemoveAll(tmp)
	}
	return err
}
