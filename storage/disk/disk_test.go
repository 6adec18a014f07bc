package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWriteFileReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"first, longer", "second"} {
		if err := WriteFile(path, []byte(want), 0o644, Durable); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Fatalf("got %q", got)
		}
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Fatalf("left over: %v", names)
	}
}

func TestWriteFileFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "f"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "f"), nil, 0o644, Volatile); err == nil {
		t.Fatal("a directory was replaced")
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Fatalf("left over: %v", names)
	}
}

func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l")
	if held, err := Locked(path); held || err != nil {
		t.Fatal(held, err)
	}
	a, err := TryLock(path, Shared)
	if err != nil {
		t.Fatal(err)
	}
	b, err := TryLock(path, Shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path, Exclusive); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
	if held, _ := Locked(path); !held {
		t.Fatal("not seen as locked")
	}
	if err := errors.Join(a.Unlock(), b.Unlock()); err != nil {
		t.Fatal(err)
	}
	if held, _ := Locked(path); held {
		t.Fatal("still locked")
	}
	for mode, lives := range map[Mode]bool{Shared: true, Exclusive: true, Visit: false} {
		l, err := TryLock(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []Mode{Shared, Exclusive, Visit} {
			if mode == Shared && other == Shared {
				continue
			}
			if _, err := TryLock(path, other); !errors.Is(err, ErrLocked) {
				t.Errorf("%d beside %d: %v", other, mode, err)
			}
		}
		if held, err := Locked(path); !held || err != nil {
			t.Errorf("%d is not seen: %v", mode, err)
		}
		if got, err := Lives(path); got != lives || err != nil {
			t.Errorf("%d lives: %v, %v", mode, got, err)
		}
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBeneath(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(dir, "root")
	for _, err := range []error{
		os.Mkdir(top, 0o755), os.Symlink("/secret", top+"/absolute"), os.Symlink("../secret", top+"/relative"),
		unix.Mkfifo(top+"/fifo", 0o644), os.WriteFile(top+"/big", make([]byte, 100), 0o644), os.Symlink("../../x", top+"/dir"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"absolute", "relative", "../secret", "/../secret", "fifo", "big"} {
		if data, err := ReadFileBeneath(root, name, 50); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
	}
	d, err := MkdirAllBeneath(root, "/a/b/../c", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, err := os.Stat(top + "/a/c"); err != nil {
		t.Fatal(err)
	}
	if d, err := MkdirAllBeneath(root, "dir/y", 0o755); err == nil {
		d.Close()
	}
	if _, err := os.Stat(filepath.Join(dir, "../x")); err == nil {
		t.Fatal("a directory was made outside")
	}
}
