package storage

// What the library does not survive by itself.

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// mendLinks completes the file `link` of layers whose maker was killed before it had written what is in it. It is the name of a symbolic link in the directory l, and the
// library, when it removes such a layer, removes the link: with an empty name, the whole directory, and so those of all layers (go.podman.io/storage, drivers/overlay,
// removeCommon). Nothing is done while somebody adds layers. Inside the user namespace, before the store is opened.
func mendLinks(root string) error {
	home := filepath.Join(root, "overlay")
	files, _ := filepath.Glob(filepath.Join(home, "*", "link")) // the pattern is well-formed
	var empty []string
	for _, file := range files {
		if st, err := os.Lstat(file); err == nil && st.Mode().IsRegular() && st.Size() == 0 {
			empty = append(empty, file)
		}
	}
	if len(empty) == 0 {
		return nil
	}
	lock, err := disk.TryLock(filepath.Join(root, writersFile), disk.Exclusive)
	if errors.Is(err, disk.ErrLocked) {
		return nil // perhaps it is just being written
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range empty {
		id := filepath.Base(filepath.Dir(file))
		errs = append(errs, disk.WriteFile(file, []byte(linkOf(home, id)), 0o644, disk.Durable))
	}
	return errors.Join(append(errs, lock.Unlock())...)
}

// linkOf is the name of the link to a layer, or one that there is not.
func linkOf(home, id string) string {
	links, _ := os.ReadDir(filepath.Join(home, "l")) // without it there is no link
	for _, l := range links {
		if to, err := os.Readlink(filepath.Join(home, "l", l.Name())); err == nil && to == filepath.Join("..", id, "diff") {
			return l.Name()
		}
	}
	return "none-" + id
}

// attempts is how often something that adds a layer is tried when others sweep it away.
const attempts = 5

// Again calls add, which adds layers by the library, once more when a process that opened the store meanwhile has taken its directory for what a killed one left: the
// library's lock on it is made and taken in two steps, and whoever comes in between deletes it (go.podman.io/storage, internal/staging_lockfile, CreateAndLock;
// github.com/podman-container-tools/podman/issues/29641). add starts from the beginning.
func Again(add func() error) error {
	err := add()
	for i := 1; i < attempts && sweptAway(err); i++ {
		err = add()
	}
	return err
}

// sweptAway tells an error from a directory that has gone; of an error in the process that unpacks there are words only, which name no directory of ours.
func sweptAway(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	if strings.Contains(text, "/overlay/staging/") && strings.Contains(text, "failed to acquire lock") {
		return true // it is just being swept
	}
	return strings.Contains(text, unix.ENOENT.Error()) &&
		(strings.Contains(text, "/temp-dir-") || strings.Contains(text, "unpacking failed") || strings.Contains(text, "/overlay/staging/"))
}
