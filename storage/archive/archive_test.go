package archive

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func opened(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// own makes a writer whose files belong to who runs the test; in the program that is root of the user namespace.
func own(t *testing.T, dir string) *Writer {
	return &Writer{Root: opened(t, dir), Owners: true}
}

// entry is a header of the test's own user.
func entry(kind byte, name, link, text string) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Linkname: link, Size: int64(len(text)), Mode: 0o750, Uid: os.Getuid(), Gid: os.Getgid(), ModTime: time.Unix(1000000000, 0)}
}

func TestCopy(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from+"/d/e/f", "text")
	write(t, from+"/empty", "")
	if err := os.Link(from+"/d/e/f", from+"/z"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", from+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(from+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1000000000, 0)
	if err := os.Chtimes(from+"/d/e", past, past); err != nil {
		t.Fatal(err)
	}
	w := own(t, to)
	if err := Walk(opened(t, from), "copy", false, w.Put); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to + "/copy/d/e/f"); err != nil || string(text) != "text" {
		t.Errorf("got %q, %v", text, err)
	}
	a, err1 := os.Stat(to + "/copy/d/e/f")
	b, err2 := os.Stat(to + "/copy/z")
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		t.Errorf("links of one file became two: %v %v", err1, err2)
	}
	if link, err := os.Readlink(to + "/copy/link"); err != nil || link != "/etc/passwd" {
		t.Errorf("got link %q, %v", link, err)
	}
	if st, err := os.Lstat(to + "/copy/fifo"); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("fifo: %v", err)
	}
	if st, err := os.Stat(to + "/copy/d/e"); err != nil || !st.ModTime().Equal(past) {
		t.Errorf("time of a directory: %v", err)
	}
}

func TestPut(t *testing.T) {
	for name, c := range map[string]struct {
		entries []*tar.Header
		text    string // of the last one
		fails   string
		there   string // a file that has text afterwards
	}{
		"up and out":             {entries: []*tar.Header{entry(tar.TypeReg, "../../x", "", "t")}, text: "t", there: "x"},
		"absolute":               {entries: []*tar.Header{entry(tar.TypeReg, "/a/b/x", "", "t")}, text: "t", there: "a/b/x"},
		"replaces a file":        {entries: []*tar.Header{entry(tar.TypeReg, "old", "", "t")}, text: "t", there: "old"},
		"replaces a link":        {entries: []*tar.Header{entry(tar.TypeSymlink, "l", "OUT", ""), entry(tar.TypeReg, "l", "", "t")}, text: "t", there: "l"},
		"through a link":         {entries: []*tar.Header{entry(tar.TypeSymlink, "l", "OUTDIR", ""), entry(tar.TypeReg, "l/x", "", "t")}, text: "t", fails: "symbolic link"},
		"directory over a link":  {entries: []*tar.Header{entry(tar.TypeSymlink, "l", "OUTDIR", ""), entry(tar.TypeDir, "l", "", "")}, fails: "cannot overwrite non-directory"},
		"directory over a file":  {entries: []*tar.Header{entry(tar.TypeDir, "old", "", "")}, fails: "cannot overwrite non-directory"},
		"file over a directory":  {entries: []*tar.Header{entry(tar.TypeReg, "dir", "", "")}, fails: "cannot overwrite directory"},
		"hard link out":          {entries: []*tar.Header{entry(tar.TypeLink, "x", "../../../OUT", "")}, fails: "no such file"},
		"hard link by a link":    {entries: []*tar.Header{entry(tar.TypeSymlink, "l", "OUTDIR", ""), entry(tar.TypeLink, "x", "l/secret", "")}, fails: "symbolic link"},
		"a type nobody knows":    {entries: []*tar.Header{entry('?', "x", "", "")}, fails: "not known"},
		"a parent that was left": {entries: []*tar.Header{entry(tar.TypeReg, "p/q/r", "", "t")}, text: "t", there: "p/q/r"},
	} {
		t.Run(name, func(t *testing.T) {
			out, dir := t.TempDir(), t.TempDir()
			write(t, out+"/secret", "secret")
			write(t, dir+"/old", "old")
			if err := os.Mkdir(dir+"/dir", 0o755); err != nil {
				t.Fatal(err)
			}
			w := own(t, dir)
			var err error
			for i, h := range c.entries {
				h.Linkname = strings.Replace(strings.Replace(h.Linkname, "OUTDIR", out, 1), "OUT", out+"/secret", 1)
				text := ""
				if i == len(c.entries)-1 {
					text = c.text
				}
				if err = w.Put(h, strings.NewReader(text)); err != nil {
					break
				}
			}
			if closed := w.Close(); closed != nil {
				t.Error(closed)
			}
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("got error %v, want %q", err, c.fails)
			}
			if c.there != "" {
				if text, err := os.ReadFile(filepath.Join(dir, c.there)); err != nil || string(text) != c.text {
					t.Errorf("%s: got %q, %v", c.there, text, err)
				}
			}
			if text, err := os.ReadFile(out + "/secret"); err != nil || string(text) != "secret" {
				t.Errorf("what is outside changed: %q, %v", text, err)
			}
			if names, err := os.ReadDir(out); err != nil || len(names) != 1 {
				t.Errorf("something was made outside: %v, %v", names, err)
			}
			if left, err := filepath.Glob(dir + "/.skiff-*"); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A racer swaps a directory of the tree with a link to somewhere else while the tree is read and written (CVE-2018-15664).
func TestRacer(t *testing.T) {
	out, tree := t.TempDir(), t.TempDir()
	write(t, out+"/f", "SECRET")
	write(t, tree+"/a/d/f", "inside")
	if err := os.Symlink(out, tree+"/a/l"); err != nil {
		t.Fatal(err)
	}
	var swaps atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		dir, err := unix.Open(tree+"/a", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return
		}
		defer unix.Close(dir)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if unix.Renameat2(dir, "d", dir, "l", unix.RENAME_EXCHANGE) == nil {
				swaps.Add(1)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	root := opened(t, tree)
	met := map[byte]int{}
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		err := Walk(root, ".", false, func(h *tar.Header, content io.Reader) error {
			if content == nil {
				met[h.Typeflag]++
				return nil
			}
			text, err := io.ReadAll(content)
			if bytes.Contains(text, []byte("SECRET")) {
				t.Fatalf("%s was read through the link", h.Name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		w := own(t, tree)
		_ = w.Put(entry(tar.TypeReg, "a/d/new", "", "x"), strings.NewReader("x")) // fails when it meets the link
		_ = w.Put(entry(tar.TypeDir, "a/d/dir", "", ""), nil)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.Root.Close()
	}
	if swaps.Load() < 100 || met[tar.TypeSymlink] == 0 {
		t.Errorf("the race was not run: %d swaps, entries %v", swaps.Load(), met)
	}
	names, err := os.ReadDir(out)
	if err != nil || len(names) != 1 {
		t.Errorf("something was made outside: %v, %v", names, err)
	}
}

func TestOneMount(t *testing.T) {
	// /proc is a mount on every machine; only its mount point is to be seen from "/".
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	w := &walker{oneMount: true, seen: map[[2]uint64]string{}}
	var names []string
	w.put = func(h *tar.Header, _ io.Reader) error { names = append(names, h.Name); return nil }
	if err := w.child(root, "proc", "proc"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(names, []string{"proc/"}) {
		t.Errorf("got %v", names)
	}
}
