// Package disk is how skiff touches files that must survive: atomic writes, locks that die with their holder, the
// boot id, and path look-ups that cannot leave a root directory. It has no opinion on what is stored.
//
// Its functions run in any process and any namespace.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// FullHint is what the user can do about a full disk.
const FullHint = "free some space, for instance with `skiff rmi` and `skiff rm`, or keep the data elsewhere with --root"

// ReadOnlyHint is what the user can do about a data directory that nothing can be written to.
const ReadOnlyHint = "make its file system writable, or keep the data elsewhere with --root"

// Hint is what the user can do about a file of ours that could not be written; "" when that is not why. A read-only file system inside a container is another matter: its steps have
// errors without paths.
func Hint(err error) string {
	var path *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path) && path.Path == os.Stdout.Name():
		return "" // whose disk that is, the user knows
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return FullHint
	case errors.Is(err, unix.EROFS) && (errors.As(err, &path) || errors.As(err, &link)):
		return ReadOnlyHint
	}
	return ""
}

// Sync says whether a write must survive a power loss.
type Sync bool

// Durable syncs file and directory; Volatile leaves both to the kernel.
const (
	Durable  Sync = true
	Volatile Sync = false
)

// WriteFile replaces path with data atomically: a temporary file beside it, write, sync if asked, rename, sync of the
// directory if asked. A reader sees the old content or the new, never a part; after an error the old content is there.
func WriteFile(path string, data []byte, perm os.FileMode, sync Sync) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".tmp-"+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", path, err)
			_ = os.Remove(f.Name()) // the first error counts
		}
	}()
	_, err = f.Write(data)
	if err == nil && perm != 0o600 {
		err = f.Chmod(perm)
	}
	if err == nil && sync == Durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if sync == Durable {
		return SyncDir(dir)
	}
	return nil
}

// SyncDir makes the names in a directory survive a power loss.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// BootID is the first eight digits of the machine's boot id.
var BootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot read the boot id: %w", err)
	}
	id := strings.ReplaceAll(strings.TrimSpace(string(data)), "-", "")
	if len(id) < 8 {
		return "", fmt.Errorf("cannot read the boot id: unexpected %q", id)
	}
	return id[:8], nil
})
