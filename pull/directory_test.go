package pull

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/storage"
)

// upper is a directory of changes with one of everything.
func upper(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		must(t, os.MkdirAll(filepath.Dir(at(name)), 0o755))
		must(t, os.WriteFile(at(name), []byte(text), 0o640))
	}
	write("src/a", "a")
	write("src/empty", "")
	write("src/large", strings.Repeat("0123456789abcdef", 100_000))
	write("src/"+strings.Repeat("long/", 40)+"name", "x")
	write("src/not\xffutf-8 \"<&>", "odd")
	write("etc/cron.d/job", "job")
	write("src/owned", "owned")
	must(t, os.Chown(at("src/owned"), 12, 34))
	must(t, os.Chmod(at("src/owned"), 0o4711))
	must(t, os.Symlink("a", at("src/link")))
	must(t, os.Link(at("src/a"), at("src/b")))
	must(t, os.Link(at("etc/cron.d/job"), at("etc/job")))
	must(t, unix.Mkfifo(at("src/pipe"), 0o600))
	must(t, os.Mkdir(at("src/hides"), 0o750))
	must(t, unix.Setxattr(at("src/hides"), "user.overlay.opaque", []byte("y"), 0))
	must(t, unix.Setxattr(at("src/a"), "user.note", []byte("n"), 0))
	must(t, unix.Setxattr(at("src"), "user.note", []byte("d"), 0))
	if err := unix.Mknod(at("src/gone"), unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", at("etc/s"))
	must(t, err)
	socket.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // it is one
	must(t, socket.Close())
	must(t, os.Rename(at("etc/s"), at("src/socket")))
	for _, name := range []string{"src/a", "src/owned", "src/hides", "src", "etc"} {
		must(t, os.Chtimes(at(name), time.Time{}, time.Unix(1_600_000_000, 123_456_789)))
	}
	return dir
}

// archived is a directory of changes as an archive.
func archived(t *testing.T, dir string, latest time.Time) []byte {
	t.Helper()
	root, err := os.Open(dir)
	must(t, err)
	defer root.Close()
	var b bytes.Buffer
	must(t, files.Tar(&b, root, files.TarOptions{Changes: true, Latest: latest}))
	return b.Bytes()
}

// The layer of a directory is the layer of its archive: the same id, the same archive out of the store again, the same files.
func TestPutDirectory(t *testing.T) {
	early := time.Unix(1_500_000_000, 0)
	for _, tt := range []struct {
		name   string
		o      files.StageOptions
		linked bool
	}{{"links", files.StageOptions{Own: true}, true}, {"copies", files.StageOptions{}, false}, {"with a latest time", files.StageOptions{Own: true, Latest: early}, false}} {
		t.Run(tt.name, func(t *testing.T) {
			s, dir := open(t), upper(t)
			base, err := s.PutLayer("", rootfs(t, "base"))
			must(t, err)
			like, err := s.LayerDir(base.ID)
			must(t, err)
			must(t, os.Chmod(like, 0o751))
			must(t, os.Chown(like, 5, 6))
			made, err := PutDirectory(s, base.ID, dir, tt.o)
			must(t, err)

			want := archived(t, dir, tt.o.Latest)
			var got bytes.Buffer
			must(t, s.LayerTar(&got, made.ID))
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("the store's archive has %d bytes, and is not the directory's of %d", got.Len(), len(want))
			}
			if made.Size != int64(len(want)) {
				t.Errorf("size %d, want %d", made.Size, len(want))
			}
			other := open(t)
			_, err = other.PutLayer("", rootfs(t, "base"))
			must(t, err)
			loaded, err := other.PutLayer(base.ID, bytes.NewReader(want))
			must(t, err)
			if loaded != made {
				t.Errorf("made %+v, and of the archive %+v", made, loaded)
			}

			stored, err := s.LayerDir(made.ID)
			must(t, err)
			unpacked, err := other.LayerDir(loaded.ID)
			must(t, err)
			if !bytes.Equal(archived(t, stored, time.Time{}), archived(t, unpacked, time.Time{})) {
				t.Error("the layer's files are not those of the archive")
			}
			var st unix.Stat_t
			must(t, unix.Stat(stored, &st))
			if st.Mode&0o7777 != 0o751 || st.Uid != 5 || st.Gid != 6 {
				t.Errorf("the root directory has mode %o and owner %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
			}
			for name, links := range map[string]uint64{"src/large": 1, "src/a": 2, "etc/job": 2} {
				must(t, unix.Stat(filepath.Join(stored, name), &st))
				if tt.linked && !strings.HasPrefix(name, "etc/") {
					links *= 2
				}
				if uint64(st.Nlink) != links { //nolint:unconvert // 32 bits on arm64
					t.Errorf("%s has %d names, want %d", name, st.Nlink, links)
				}
			}
			if _, err := os.Lstat(filepath.Join(stored, "src/socket")); !errors.Is(err, os.ErrNotExist) {
				t.Error("a socket is in the layer:", err)
			}

			again, err := PutDirectory(s, base.ID, dir, tt.o)
			must(t, err)
			if again != made {
				t.Errorf("the second time it is %+v", again)
			}
			if left, err := filepath.Glob(filepath.Join(s.Library().GraphRoot(), "overlay/staging/*/dir")); len(left) > 0 || err != nil {
				t.Error("left over:", left, err)
			}
		})
	}
}

// What goes wrong while the files are put into place leaves no layer behind.
func TestPutFilesFails(t *testing.T) {
	s := open(t)
	broken := errors.New("broken")
	if _, err := s.PutFiles("", func(*os.File) (storage.Filled, error) { return storage.Filled{}, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if layers, err := s.Library().Layers(); len(layers) > 0 || err != nil {
		t.Error("there are layers:", layers, err)
	}
	if _, err := s.PutFiles("0123", func(*os.File) (storage.Filled, error) { return storage.Filled{}, nil }); err == nil {
		t.Error("a parent that is not there was taken")
	}
}

// A command that was told to end while it read leaves no layer.
func TestPutDirectoryToldToEnd(t *testing.T) {
	s, dir := open(t), upper(t)
	base, err := s.PutLayer("", rootfs(t, "base"))
	must(t, err)
	before, err := s.Library().Layers()
	must(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("killed")
	cancel(why)
	if _, err := putDirectory(ctx, s, base.ID, dir, files.StageOptions{}); !errors.Is(err, why) {
		t.Errorf("it says %v", err)
	}
	after, err := s.Library().Layers()
	must(t, err)
	if len(after) != len(before) {
		t.Errorf("there are %d layers, before it was %d", len(after), len(before))
	}
}
