package files

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memory is a Remember of everything.
type memory map[unix.Stat_t]string

func stamped(st *unix.Stat_t) unix.Stat_t {
	return unix.Stat_t{Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtim: st.Mtim, Ctim: st.Ctim}
}

func (m memory) Get(st *unix.Stat_t) (string, bool) { sum, ok := m[stamped(st)]; return sum, ok }
func (m memory) Put(st *unix.Stat_t, sum string)    { m[stamped(st)] = sum }

// big is a tree with more than one batch in a directory, nested directories and files with several names.
func big(t *testing.T) *os.File {
	t.Helper()
	content := map[string]string{"top/none/": "", "top/link": "-> a/f1", "etc/x": "etc", "top/large": strings.Repeat("large ", 100_000)}
	for d, n := range map[string]int{"a": 5, "b": maxBatch + 10, "b/c": 2, "b/c/d": 3} {
		for i := range n {
			content[fmt.Sprintf("top/%s/f%d", d, i)] = fmt.Sprint(d, i)
		}
	}
	root := tree(t, content)
	err := errors.Join(
		os.Link(filepath.Join(root.Name(), "top/a/f1"), filepath.Join(root.Name(), "top/b/first")),
		os.Link(filepath.Join(root.Name(), "top/a/f1"), filepath.Join(root.Name(), "zzz")),
		os.Chmod(filepath.Join(root.Name(), "top/a/f2"), 0o4755), os.Chmod(filepath.Join(root.Name(), "top/b"), 0o500),
		unix.Setxattr(filepath.Join(root.Name(), "top/a/f3"), "user.note", []byte("n"), 0), unix.Mkfifo(filepath.Join(root.Name(), "top/pipe"), 0o600),
		os.Chtimes(filepath.Join(root.Name(), "top/b"), time.Time{}, time.Unix(1, 2)),
	)
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(root.Name(), "top/b"), 0o700) })
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// copied copies a tree into a new directory and returns that. An ordinary user cannot write into b once it has its mode.
func copied(t *testing.T, src *os.File, d *Direct, o CopyOptions) *os.File {
	t.Helper()
	root := tree(t, map[string]string{"etc/": "", "there/": ""})
	if d != nil {
		d.Upper = root
	}
	o.Path, o.Direct, o.Contents = "/", d, true
	if o.Owner == nil {
		o.Owner = me()
	}
	if err := Copy(t.Context(), Source{Root: src}, root, "/", o); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc", "there"} { // they were there before
		if err := os.Chtimes(filepath.Join(root.Name(), name), time.Time{}, time.Unix(9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// bytesOf is a tree as an archive.
func bytesOf(t *testing.T, root *os.File) string {
	t.Helper()
	var b strings.Builder
	if err := Tar(&b, root, TarOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Past the mount the same comes out as through it: to the byte, with times, modes, attributes and links.
func TestDirect(t *testing.T) {
	src := big(t)
	if os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Join(src.Name(), "top/b"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []CopyOptions{{}, {Pick: Pick{Include: []string{"top/b/**"}, Exclude: []string{"**/f1*"}}}, {Time: &time.Time{}}} {
		if through, past := bytesOf(t, copied(t, src, nil, o)), bytesOf(t, copied(t, src, &Direct{}, o)); through != past {
			t.Errorf("%+v: %d and %d bytes of archive differ", o.Pick, len(through), len(past))
		}
	}
}

// names counts the names of a file.
func names(t *testing.T, root *os.File, name string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(root.Name(), name), &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Nlink) //nolint:unconvert // 32 bits on arm64
}

// With an earlier copy, files that are the same are further names of its files; whatever differs in anything is copied.
func TestEarlier(t *testing.T) {
	content := map[string]string{"d/etc/x": "x", "etc/deep/y": "y"}
	for _, n := range []string{"same", "text", "mode", "time", "unknown", "wrong", "removed"} {
		content["d/"+n] = n
	}
	src := tree(t, content)
	known := memory{}
	remember := func() {
		err := Source{Root: src}.Walk("/", Pick{Path: "/"}, func(e Entry) error { return digestEntry(sha256.New(), Source{Root: src}, e, known) })
		if err != nil {
			t.Fatal(err)
		}
	}
	remember()
	sums := map[string]string{}
	first := copied(t, src, &Direct{Memory: known, Made: func(p, s string) { sums[p] = s }}, CopyOptions{})
	want := []string{"d/etc/x", "d/mode", "d/removed", "d/same", "d/text", "d/time", "d/unknown", "d/wrong", "etc/deep/y"}
	var got []string
	for p := range sums {
		got = append(got, p)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("digests of %q, want %q", got, want)
	}
	sums["d/wrong"] = sums["d/same"]
	delete(sums, "d/unknown")
	at := func(n string) string { return filepath.Join(src.Name(), "d", n) }
	err := errors.Join(
		os.WriteFile(at("text"), []byte("TEXT"), 0o644), os.Chmod(at("mode"), 0o600), os.Chtimes(at("time"), time.Time{}, time.Unix(5, 0)), os.Remove(at("removed")),
	)
	if err != nil {
		t.Fatal(err)
	}
	remember()
	second := copied(t, src, &Direct{Memory: known, Earlier: first, Has: sums}, CopyOptions{})
	for name, n := range map[string]uint64{"d/same": 2, "d/etc/x": 2, "d/text": 1, "d/mode": 1, "d/time": 1, "d/unknown": 1, "d/wrong": 1, "etc/deep/y": 1} {
		if got := names(t, second, name); got != n {
			t.Errorf("%s has %d names, want %d", name, got, n)
		}
	}
	if through := copied(t, src, nil, CopyOptions{}); bytesOf(t, through) != bytesOf(t, second) {
		t.Error("with an earlier copy something else came out")
	}
	// Owners count as well.
	if os.Geteuid() == 0 {
		third := copied(t, src, &Direct{Memory: known, Earlier: first, Has: sums}, CopyOptions{Owner: &Owner{7, 8}})
		if names(t, third, "d/same") != 1 {
			t.Error("a file of another owner was taken")
		}
	}
}

// What is copied straight into a directory that is new, or was empty, is shared as well; a directory with something in it is left to the mount.
func TestBegin(t *testing.T) {
	src := tree(t, map[string]string{"f": "f", "d/g": "g"})
	known := memory{}
	err := Source{Root: src}.Walk("/", Pick{Path: "/"}, func(e Entry) error { return digestEntry(sha256.New(), Source{Root: src}, e, known) })
	if err != nil {
		t.Fatal(err)
	}
	for dest, want := range map[string]string{"/new": "d/g f", "/new/deep/": "d/g f", "/empty": "d/g f", "/full": "d/g", "/": "d/g"} {
		root := tree(t, map[string]string{"empty/": "", "full/x": "x"})
		var got []string
		d := &Direct{Upper: root, Memory: known, Made: func(p, _ string) { got = append(got, strings.TrimPrefix("/"+p, strings.TrimSuffix(dest, "/")+"/")) }}
		o := CopyOptions{Pick: Pick{Path: "/"}, Contents: true, Owner: me(), Direct: d}
		if err := Copy(t.Context(), Source{Root: src}, root, dest, o); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(got); strings.Join(got, " ") != want {
			t.Errorf("to %s: %q past the mount, want %q", dest, got, want)
		}
		if data, err := os.ReadFile(filepath.Join(root.Name(), dest, "f")); err != nil || string(data) != "f" {
			t.Errorf("to %s: %q, %v", dest, data, err)
		}
	}
}

// A worker's failure is the copy's, and ends it.
func TestDirectFails(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	content := map[string]string{}
	for i := range 500 {
		content[fmt.Sprintf("d%d/f", i)] = "x"
	}
	src, root := tree(t, content), tree(t, nil)
	if err := os.Chmod(filepath.Join(src.Name(), "d7/f"), 0); err != nil {
		t.Fatal(err)
	}
	o := CopyOptions{Pick: Pick{Path: "/"}, Contents: true, Owner: me(), Direct: &Direct{Upper: root}}
	if err := Copy(t.Context(), Source{Root: src}, root, "/", o); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := Copy(ctx, Source{Root: src}, tree(t, nil), "/", o); !errors.Is(err, enough) {
		t.Error(err)
	}
}
