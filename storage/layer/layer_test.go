package layer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// images makes n layers, top first; each has a file of its own, "who" is in all of them, and the second from the top has the directory "gone".
func images(t *testing.T, n int) (lower []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("layer-with-a-name-as-long-as-they-are-%064d", i))
		write(t, filepath.Join(d, fmt.Sprint("file", i)), fmt.Sprint(i))
		write(t, filepath.Join(d, "who"), fmt.Sprint(i))
		lower = append(lower, d)
	}
	write(t, filepath.Join(lower[min(1, n-1)], "gone", "f"), "x")
	return lower
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// read reads a file of a mounted layer, "" when it is not there.
func read(t *testing.T, m *Mounted, name string) string {
	t.Helper()
	fd, err := unix.Openat(int(m.Root.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return ""
	}
	if err != nil {
		t.Fatal(name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var b [64]byte
	n, _ := f.Read(b[:])
	return string(b[:n])
}

func change(t *testing.T, m *Mounted) {
	t.Helper()
	fd, err := unix.Openat(int(m.Root.Fd()), "new", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Write(fd, []byte("new"))
	if err := errors.Join(err, unix.Close(fd), unix.Unlinkat(int(m.Root.Fd()), "gone/f", 0), unix.Unlinkat(int(m.Root.Fd()), "gone", unix.AT_REMOVEDIR)); err != nil {
		t.Fatal(err)
	}
}

func needFuse(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("fuse-overlayfs"); err != nil {
		t.Skip("fuse-overlayfs is not installed")
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("/dev/fuse: ", err)
	}
	unix.Close(fd)
	runtime.LockOSThread() // fuse-overlayfs dies with the thread that started it
	t.Cleanup(runtime.UnlockOSThread)
}

func TestMount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kind   Kind
		layers int
	}{
		{"overlay of one", Overlay, 1}, {"overlay of many", Overlay, 200}, {"fuse of one", Fuse, 1}, {"fuse of many", Fuse, 200}, {"copy", VFS, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.kind == Fuse {
				needFuse(t)
			}
			lower := images(t, tt.layers)
			if err := os.Chmod(lower[0], 0o751); err != nil {
				t.Fatal(err)
			}
			o := Options{Kind: tt.kind, Lower: lower, Dir: filepath.Join(t.TempDir(), "layer"), Target: t.TempDir()}
			for life := range 2 {
				m, err := Mount(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				var st unix.Stat_t
				if err := unix.Fstatat(int(m.Root.Fd()), ".", &st, 0); err != nil || st.Mode&0o7777 != 0o751 {
					t.Errorf("the root directory has mode %o, %v", st.Mode, err)
				}
				if got := read(t, m, "who"); got != "0" {
					t.Errorf("the topmost file is of layer %q", got)
				}
				if last := fmt.Sprint(tt.layers - 1); read(t, m, "file"+last) != last {
					t.Error("the lowest layer is not there")
				}
				if life == 0 {
					change(t, m)
				}
				if read(t, m, "new") != "new" || read(t, m, "gone/f") != "" {
					t.Error("changes are not there in life", life)
				}
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				if entries, err := os.ReadDir(o.Target); len(entries) > 0 || err != nil {
					t.Error("still mounted:", entries, err)
				}
			}
			if _, err := os.Stat(filepath.Join(lower[min(1, tt.layers-1)], "gone", "f")); err != nil {
				t.Error("the image was changed:", err)
			}
			if err := Delete(o.Dir); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(o.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Error("something is left:", err)
			}
		})
	}
}

// What kernels before 6.8 get must work as well; here it is asked for by name.
func TestMountNamed(t *testing.T) {
	for _, n := range []int{1, 3, 130, 400} {
		for _, volatile := range []bool{false, true} {
			o := Options{Kind: Overlay, Lower: images(t, n), Dir: filepath.Join(t.TempDir(), `a:b,c\\d`, "layer"), Volatile: volatile}
			if err := makeUpper(o); err != nil {
				t.Fatal(err)
			}
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			fd, err := mountNamed(o)
			if err != nil {
				t.Fatal(n, err)
			}
			if now, err := os.Getwd(); err != nil || now != here {
				t.Fatal("the process's working directory was changed:", now, err)
			}
			m := &Mounted{Root: os.NewFile(uintptr(fd), "root"), Detached: true}
			change(t, m)
			last := fmt.Sprint(n - 1)
			if read(t, m, "who") != "0" || read(t, m, "file"+last) != last || read(t, m, "new") != "new" || read(t, m, "gone/f") != "" {
				t.Errorf("%d layers: the mount does not show them", n)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), "/layer/m ") {
				t.Error("it is still in the tree", err)
			}
		}
	}
	o := Options{Kind: Overlay, Lower: make([]string, 2000), Dir: t.TempDir()}
	if _, err := namedOptions(o); err == nil {
		t.Error("2000 layers were accepted")
	}
}

// The data directory's path may have any character.
func TestOddPath(t *testing.T) {
	for _, kind := range []Kind{Overlay, Fuse, VFS} {
		t.Run(string(kind), func(t *testing.T) {
			if kind == Fuse {
				needFuse(t)
			}
			odd := "a b:c,d\\e\nf=g"
			if kind == Fuse {
				odd = strings.ReplaceAll(odd, ":", "") // which that program cannot
			}
			base := filepath.Join(t.TempDir(), odd)
			if err := os.MkdirAll(filepath.Join(base, "rootfs"), 0o755); err != nil {
				t.Fatal(err)
			}
			lower := images(t, 3)
			for i, dir := range lower {
				moved := filepath.Join(base, fmt.Sprint("lower", i))
				if err := os.Rename(dir, moved); err != nil {
					t.Fatal(err)
				}
				lower[i] = moved
			}
			m, err := Mount(t.Context(), Options{Kind: kind, Lower: lower, Dir: filepath.Join(base, "layer"), Target: filepath.Join(base, "rootfs")})
			if err != nil {
				t.Fatal(err)
			}
			change(t, m)
			if read(t, m, "who") != "0" || read(t, m, "file2") != "2" || read(t, m, "new") != "new" {
				t.Error("the mount does not show the layers")
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A path that the new mount API cannot take leads to mount(2).
func TestLongPath(t *testing.T) {
	base := t.TempDir()
	for range 5 {
		base = filepath.Join(base, strings.Repeat("long", 20))
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := Mount(t.Context(), Options{Kind: Overlay, Lower: images(t, 2), Dir: filepath.Join(base, "layer")})
	if err != nil {
		t.Fatal(err)
	}
	if read(t, m, "who") != "0" {
		t.Error("the layers are not there")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMountScratch(t *testing.T) {
	m, err := Mount(t.Context(), Options{Kind: Overlay, Dir: filepath.Join(t.TempDir(), "layer"), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// A volatile layer is mounted again with what was written, once somebody says that it may be.
func TestRenew(t *testing.T) {
	o := Options{Kind: Overlay, Lower: images(t, 1), Dir: filepath.Join(t.TempDir(), "layer"), Volatile: true}
	for life := range 3 {
		if life > 0 {
			if m, err := Mount(t.Context(), o); err == nil {
				t.Fatal("the kernel mounts it again unasked", m.Close())
			}
			if err := Renew(o.Dir); err != nil {
				t.Fatal(err)
			}
		}
		m, err := Mount(t.Context(), o)
		if err != nil {
			t.Fatal(life, err)
		}
		if life == 0 {
			change(t, m)
		}
		if read(t, m, "new") != "new" || read(t, m, "gone/f") != "" {
			t.Errorf("life %d: what was written is not there", life)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := Renew(t.TempDir()); err != nil {
		t.Error("a layer of another kind:", err)
	}
}

func TestMountSays(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, kind := range []Kind{Overlay, "zfs"} {
		_, err := Mount(t.Context(), Options{Kind: kind, Lower: []string{missing}, Dir: filepath.Join(t.TempDir(), "layer")})
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: the layer is not named: %v", kind, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	_, err := Mount(t.Context(), Options{Kind: Fuse, Lower: images(t, 1), Dir: filepath.Join(t.TempDir(), "layer"), Target: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	data := t.TempDir()
	kind, why, err := Choose(t.Context(), data, "")
	if err != nil || kind != Overlay || why == "" {
		t.Fatal(kind, why, err)
	}
	entries, err := os.ReadDir(data)
	if err != nil || len(entries) != 1 || entries[0].Name() != kindFile {
		t.Error("the probe left something:", entries, err)
	}
	boot, err := disk.BootID()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(data, kindFile), "fuse-overlayfs\nit was so\nanother boot\n")
	if kind, _, err := Choose(t.Context(), data, ""); kind != Overlay || err != nil {
		t.Error("what could not be done before a reboot was not tried again:", kind, err)
	}
	write(t, filepath.Join(data, kindFile), "fuse-overlayfs\nit was so\n"+boot+"\n")
	if kind, why, err := Choose(t.Context(), data, ""); kind != Fuse || why != "it was so" || err != nil {
		t.Error("the answer was not kept:", kind, why, err)
	}
	if kind, _, err := Choose(t.Context(), data, VFS); kind != VFS || err != nil {
		t.Error("what was asked for is not what came:", kind, err)
	}
	if _, _, err := Choose(t.Context(), data, "zfs"); err == nil {
		t.Error("an unknown kind was accepted")
	}
	write(t, filepath.Join(data, kindFile), "no")
	if kind, _, err := Choose(t.Context(), data, ""); kind != Overlay || err != nil {
		t.Error("a damaged answer was not asked again:", kind, err)
	}
}

func TestCopyApplies(t *testing.T) {
	lower := images(t, 2)
	write(t, filepath.Join(lower[1], "dir", "below"), "x")
	write(t, filepath.Join(lower[0], "dir", "above"), "x")
	write(t, filepath.Join(lower[1], "was-a-dir", "f"), "x")
	write(t, filepath.Join(lower[0], "was-a-dir"), "file")
	write(t, filepath.Join(lower[1], "target"), "kept")
	if err := errors.Join(os.Symlink("target", filepath.Join(lower[1], "link")), unix.Setxattr(filepath.Join(lower[0], "dir"), "user.overlay.opaque", []byte("y"), 0)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(lower[0], "link"), "file")
	m, err := Mount(t.Context(), Options{Kind: VFS, Lower: lower, Dir: filepath.Join(t.TempDir(), "layer")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	for name, want := range map[string]string{"dir/above": "x", "dir/below": "", "was-a-dir": "file", "link": "file", "target": "kept"} {
		if got := read(t, m, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
