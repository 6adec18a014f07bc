package files

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// me keeps the owner: an ordinary user can give files to nobody else.
func me() *Owner { return &Owner{uint32(os.Getuid()), uint32(os.Getgid())} }

// tree makes files in a new directory and opens it; a name that ends in a slash is a directory, a value that begins with "-> " a link.
func tree(t *testing.T, content map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	names := make([]string, 0, len(content))
	for name := range content {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(dir, name)
		var err error
		if target, ok := strings.CutPrefix(content[name], "-> "); ok {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path))
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content[name]), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// listing is what is in a tree: files with contents, links with targets.
func listing(t *testing.T, root *os.File) string {
	t.Helper()
	var out []string
	err := Source{Root: root}.Walk("/", Pick{Path: "/"}, func(e Entry) error {
		path := filepath.Join(root.Name(), e.Rel)
		switch e.Stat.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if e.Rel != "" {
				out = append(out, e.Rel+"/")
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			out = append(out, e.Rel+"->"+target)
			return err
		default:
			data, err := os.ReadFile(path)
			out = append(out, e.Rel+"="+string(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func TestCopy(t *testing.T) {
	source := map[string]string{
		"a": "A", "b.txt": "B", "d/x": "X", "d/y.txt": "Y", "d/e/z.txt": "Z", "link": "-> a", "up": "-> ../../../../a", "dirlink": "-> d", "empty/": "",
	}
	tests := []struct {
		name   string
		ignore []string
		to     map[string]string
		dest   string
		o      CopyOptions
		want   string
		err    string
	}{
		{"a file", nil, nil, "/f", CopyOptions{Pick: Pick{Path: "a"}}, "f=A", ""},
		{"a file into a new directory", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "a"}}, "n/ n/a=A", ""},
		{"a file into a directory", nil, map[string]string{"n/": ""}, "/n", CopyOptions{Pick: Pick{Path: "a"}}, "n/ n/a=A", ""},
		{"a file over a file", nil, map[string]string{"f": "old"}, "/f", CopyOptions{Pick: Pick{Path: "a"}}, "f=A", ""},
		{"a file over a link to outside", nil, map[string]string{"f": "-> /etc/passwd"}, "/f", CopyOptions{Pick: Pick{Path: "a"}}, "etc/ etc/passwd=A f->/etc/passwd", ""},
		{"a file over a directory", nil, map[string]string{"n/a/": ""}, "/n", CopyOptions{Pick: Pick{Path: "a"}}, "", "cannot replace to directory"},
		{"replaced", nil, map[string]string{"n/a/b": "x"}, "/n", CopyOptions{Pick: Pick{Path: "a"}, Replace: true}, "n/ n/a=A", ""},
		{"a directory's contents", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "d"}, Contents: true}, "n/ n/e/ n/e/z.txt=Z n/x=X n/y.txt=Y", ""},
		{"a pattern", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "*.txt", Wildcard: true}}, "n/ n/b.txt=B", ""},
		{"no match", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "*.none", Wildcard: true}}, "", `"/*.none": not found`},
		{"no match, allowed", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "*.none", Wildcard: true}, EmptyOK: true}, "", ""},
		{"missing", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "none"}}, "", `"/none": not found`},
		{"excluded", nil, nil, "/", CopyOptions{Pick: Pick{Path: "d", Exclude: []string{"**/*.txt"}}, Contents: true}, "e/ x=X", ""},
		{"included", nil, nil, "/", CopyOptions{Pick: Pick{Path: "/", Include: []string{"d/e/z.txt"}}, Contents: true}, "d/ d/e/ d/e/z.txt=Z", ""},
		{"ignored", []string{"*", "!d/e"}, nil, "/", CopyOptions{Pick: Pick{Path: "/"}, Contents: true}, "d/ d/e/ d/e/z.txt=Z", ""},
		{"ignored by name", []string{"a"}, nil, "/", CopyOptions{Pick: Pick{Path: "a"}}, "", `"/a": not found`},
		{"below an ignored directory", []string{"d"}, nil, "/", CopyOptions{Pick: Pick{Path: "d/x"}}, "", `"/d/x": not found`},
		{"a link as it is", nil, nil, "/", CopyOptions{Pick: Pick{Path: "link"}}, "link->a", ""},
		{"a link followed", nil, nil, "/f", CopyOptions{Pick: Pick{Path: "link", Follow: true}}, "f=A", ""},
		{"a link followed keeps its name", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "link", Follow: true}}, "n/ n/link=A", ""},
		{"links of a pattern keep their names", nil, nil, "/n/", CopyOptions{Pick: Pick{Path: "li*", Wildcard: true, Follow: true}}, "n/ n/link=A", ""},
		{"a link upwards stays inside", nil, nil, "/f", CopyOptions{Pick: Pick{Path: "up", Follow: true}}, "f=A", ""},
		{"through a link", nil, nil, "/f", CopyOptions{Pick: Pick{Path: "dirlink/x"}}, "f=X", ""},
		{"into a link", nil, map[string]string{"real/": "", "l": "-> /real"}, "/l/", CopyOptions{Pick: Pick{Path: "a"}}, "l->/real real/ real/a=A", ""},
		{"upwards", nil, nil, "/../../f", CopyOptions{Pick: Pick{Path: "../../a"}}, "f=A", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := Source{Root: tree(t, source), Ignore: tt.ignore}
			to := tree(t, tt.to)
			tt.o.Owner = me()
			err := Copy(context.Background(), src, to, tt.dest, tt.o)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(t, to); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// The digest changes with what would be copied, and with nothing else.
func TestDigest(t *testing.T) {
	base := map[string]string{"d/a": "A", "d/b": "B", "other": "O", "d/l": "-> a"}
	pick := []Pick{{Path: "d", Exclude: []string{"b"}}}
	sum := func(change map[string]string) string {
		content := map[string]string{}
		for k, v := range base {
			content[k] = v
		}
		for k, v := range change {
			content[k] = v
		}
		s, err := Digest(Source{Root: tree(t, content), Flat: &Owner{}}, pick, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sum(nil)
	tests := []struct {
		name   string
		change map[string]string
		same   bool
	}{
		{"nothing", nil, true},
		{"another file", map[string]string{"other": "changed"}, true},
		{"an excluded file", map[string]string{"d/b": "changed"}, true},
		{"contents", map[string]string{"d/a": "changed"}, false},
		{"a link", map[string]string{"d/l": "-> b"}, false},
		{"a new file", map[string]string{"d/c": ""}, false},
		{"a new directory", map[string]string{"d/c/": ""}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sum(tt.change) == first; got != tt.same {
				t.Errorf("same digest: %v, want %v", got, tt.same)
			}
		})
	}
}

// archive makes a tar archive.
func archive(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		body := h.Linkname
		if h.Typeflag == tar.TypeReg {
			h.Linkname, h.Size = "", int64(len(body))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Archives write below their directory, whatever names and links they hold. (The body of a file is in Linkname.)
func TestUnpack(t *testing.T) {
	outside := t.TempDir()
	reg, link, hard, dir := byte(tar.TypeReg), byte(tar.TypeSymlink), byte(tar.TypeLink), byte(tar.TypeDir)
	tests := []struct {
		name    string
		headers []tar.Header
		want    string
		fails   bool
	}{
		{"files", []tar.Header{{Typeflag: dir, Name: "d/"}, {Typeflag: reg, Name: "d/f", Linkname: "F"}, {Typeflag: hard, Name: "g", Linkname: "d/f"}}, "x/ x/d/ x/d/f=F x/g=F", false},
		{"dots", []tar.Header{{Typeflag: reg, Name: "../../../f", Linkname: "F"}}, "x/ x/f=F", false},
		{"absolute", []tar.Header{{Typeflag: reg, Name: outside + "/f", Linkname: "F"}}, "", false},
		{"a link out, and a file through it", []tar.Header{{Typeflag: link, Name: "l", Linkname: outside}, {Typeflag: reg, Name: "l/f", Linkname: "F"}}, "", true},
		{"a file over a link", []tar.Header{{Typeflag: link, Name: "l", Linkname: outside + "/f"}, {Typeflag: reg, Name: "l", Linkname: "F"}}, "x/ x/l=F", false},
		{"a hard link out", []tar.Header{{Typeflag: hard, Name: "l", Linkname: "/etc/passwd"}}, "", true},
		{"a hard link up", []tar.Header{{Typeflag: hard, Name: "l", Linkname: "../../../../../../etc/passwd"}}, "", true},
		{"a device", []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to := tree(t, nil)
			err := Unpack(context.Background(), archive(t, tt.headers...), to, "/x", nil, nil)
			if (err != nil) != tt.fails {
				t.Fatalf("got error %v, want one: %v", err, tt.fails)
			}
			if got := listing(t, to); tt.want != "" && got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("something was written outside: %v, %v", entries, err)
			}
		})
	}
}

// What Tar writes, Unpack makes again; twice the same tree gives the same bytes.
func TestTar(t *testing.T) {
	root := tree(t, map[string]string{"d/a": "A", "d/l": "-> a", "e/": ""})
	if err := os.Link(filepath.Join(root.Name(), "d/a"), filepath.Join(root.Name(), "d/same")); err != nil {
		t.Fatal(err)
	}
	var one, two bytes.Buffer
	if err := errors.Join(Tar(&one, root, TarOptions{Changes: true}), Tar(&two, root, TarOptions{Changes: true})); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the archives differ")
	}
	to := tree(t, nil)
	if err := Unpack(context.Background(), &one, to, "/", nil, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, to), listing(t, root); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// An archive is one by its first header, which may take several blocks, compressed or not.
func TestIsArchive(t *testing.T) {
	long := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long/", 60) + "f", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}})
	plain, err := io.ReadAll(long)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		head []byte
		want bool
	}{
		"plain": {plain, true}, "compressed": {packed.Bytes(), true}, "text": {[]byte("FROM busybox\n"), false}, "nothing": {nil, false},
		"only the magic": {packed.Bytes()[:10], false}, "a header cut off": {plain[:600], false}, "zeros": {make([]byte, 10240), false},
	} {
		if got, err := IsArchive(tt.head); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := IsArchive(append([]byte("\xfd7zXZ\x00"), make([]byte, 600)...)); err == nil {
		t.Error("without xz, an archive of that kind is taken for none")
	}
}

// What is in a directory is copied, not the directory: that is made like those above it, or stays as it is, with the time of its source. A directory below comes as it is, also over one.
func TestCopyDirectory(t *testing.T) {
	src := Source{Root: tree(t, map[string]string{"d/sub/f": "F"})}
	old := time.Unix(1000000000, 0)
	chmod := func(root *os.File, name string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(root.Name(), name)
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	chmod(src.Root, "d/sub", 0o750)
	chmod(src.Root, "d", 0o700)
	mode := uint32(0o711)
	for _, tt := range []struct {
		name string
		to   map[string]string
		dest string
		mode *uint32
		want string
	}{
		{"new", nil, "/n", nil, "0755 0750"},
		{"new, with a slash", nil, "/n/", nil, "0755 0750"},
		{"new, deeper", nil, "/a/../n", nil, "0755 0750"},
		{"there", map[string]string{"n/sub/g": ""}, "/n", nil, "0707 0750"},
		{"with a mode", nil, "/n", &mode, "0711 0711"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := tree(t, tt.to)
			if tt.to != nil {
				chmod(to, "n/sub", 0o777)
				chmod(to, "n", 0o707)
			}
			if err := Copy(context.Background(), src, to, tt.dest, CopyOptions{Pick: Pick{Path: "d"}, Contents: true, Owner: me(), Mode: tt.mode}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range []string{"n", "n/sub"} {
				st, err := os.Stat(filepath.Join(to.Name(), name))
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, fmt.Sprintf("%#o", st.Mode().Perm())); !st.ModTime().Equal(old) {
					t.Errorf("%s is from %v", name, st.ModTime())
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestGlob(t *testing.T) {
	root := tree(t, map[string]string{"a.txt": "", "b.txt": "", "d/c.txt": "", "e/c.txt": "", "*": ""})
	for pattern, want := range map[string]string{"*.txt": "a.txt b.txt", "*/c.txt": "d/c.txt e/c.txt", "[ab].txt": "a.txt b.txt", `\*`: "*", "?.none": "", "d/../*.txt": "a.txt b.txt"} {
		got, err := Glob(root, pattern)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("Glob(%q) = %q, %v; want %q", pattern, got, err, want)
		}
	}
	if _, err := Glob(root, "[a"); err == nil {
		t.Error("a malformed pattern is no error")
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for link, target := range map[string]string{
		"abs": "/d", "rel": "d/e", "up": "../../../../x/y", "loop": "loop", "d/back": "../file", "dangling": "/no/where", "chain": "abs", "top": "/",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close() // nothing is written
	for name, want := range map[string]string{
		"/": ".", "": ".", "d": "d", "/d/x/y": "d/x/y", "abs/f": "d/f", "chain/f": "d/f", "rel/f": "d/e/f", "up": "x/y", "up/z": "x/y/z",
		"d/back": "file", "dangling/f": "no/where/f", "top/d": "d", "abs/back/f": "file/f", "../d": "d",
	} {
		if got, err := Resolve(root, name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if err := Mkdir(root, "dangling/made", 0o755, true, nil, nil); err != nil {
		t.Error(err)
	}
	if st, err := Lstat(root, "no/where/made"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("a directory beneath what a link leads to is %o, %v", st.Mode, err)
	}
	if _, err := Resolve(root, "loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop of links: %v", err)
	}
}
