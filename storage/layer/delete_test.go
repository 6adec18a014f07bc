package layer

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// locked makes a tree with directories of mode 000 and a link out of it.
func locked(t *testing.T) (tree, outside string) {
	t.Helper()
	base := t.TempDir()
	tree, outside = filepath.Join(base, "tree"), filepath.Join(base, "outside")
	write(t, filepath.Join(tree, "a/b/c/file"), "x")
	write(t, filepath.Join(outside, "kept"), "x")
	for _, err := range []error{
		os.Symlink(outside, filepath.Join(tree, "a/link")), os.Chmod(outside, 0o500),
		os.Chmod(filepath.Join(tree, "a/b/c"), 0), os.Chmod(filepath.Join(tree, "a/b"), 0), os.Chmod(filepath.Join(tree, "a"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return tree, outside
}

// check says what Delete must have left: nothing of the tree, and all of what its link points to.
func check(t *testing.T, tree, outside string) {
	t.Helper()
	if _, err := os.Lstat(tree); !errors.Is(err, os.ErrNotExist) {
		t.Error("the tree is still there:", err)
	}
	st, err := os.Stat(outside)
	if err != nil || st.Mode().Perm() != 0o500 {
		t.Error("what the link points to was touched:", st.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Error("the link was followed:", err)
	}
}

func TestDeleteAsRoot(t *testing.T) {
	tree, outside := locked(t)
	if err := Delete(tree); err != nil {
		t.Fatal(err)
	}
	check(t, tree, outside)
	if err := Delete(tree); err != nil {
		t.Error("a missing tree is an error:", err)
	}
}

// Without the capability that lets root read everything, the owner of a directory has to open it up.
func TestDeleteAsOwner(t *testing.T) {
	tree, outside := locked(t)
	err := without(t, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH)(func() error {
		if _, err := os.ReadDir(filepath.Join(tree, "a")); !errors.Is(err, os.ErrPermission) {
			t.Error("the directory can be read:", err)
		}
		return Delete(tree)
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, tree, outside)
}

// without runs a function on a thread that has given up some effective capabilities.
func without(t *testing.T, caps ...int) func(func() error) error {
	t.Helper()
	return func(f func() error) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: its capabilities are its own
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			err := unix.Capget(&header, &data[0])
			for _, c := range caps {
				data[c/32].Effective &^= 1 << (c % 32)
			}
			if err = errors.Join(err, unix.Capset(&header, &data[0])); err == nil {
				err = f()
			}
			done <- err
		}()
		return <-done
	}
}
