package files

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// layerOf makes an upper directory: "d/" a directory, "d/!" an opaque one, "-f" a whiteout (a character device, which only root makes everywhere), "f=g" a hard
// link to g, else a file with its own name and layer as contents.
func layerOf(t *testing.T, mark string, entries ...string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		var err error
		name, target, linked := strings.Cut(e, "=")
		full := filepath.Join(dir, strings.TrimRight(name, "/!"))
		switch base := filepath.Base(name); {
		case strings.HasSuffix(name, "/!"):
			if err = os.MkdirAll(full, 0o755); err == nil {
				err = unix.Setxattr(full, "user.overlay.opaque", []byte("y"), 0)
			}
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		case strings.HasPrefix(base, "-"):
			full = filepath.Join(filepath.Dir(full), base[1:])
			if err = unix.Mknod(full, unix.S_IFCHR, 0); errors.Is(err, unix.EPERM) {
				t.Skip("this kernel lets no ordinary user make whiteouts")
			}
		case linked:
			err = os.Link(filepath.Join(dir, target), full)
		default:
			err = os.WriteFile(full, []byte(mark), 0o644)
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

func TestMerge(t *testing.T) {
	tests := []struct {
		name         string
		lower, upper []string
		want         []string
	}{
		{"both", []string{"a", "d/", "d/x"}, []string{"b", "d/", "d/y"}, []string{"a 1", "b 2", "d/", "d/x 1", "d/y 2"}},
		{"over", []string{"a"}, []string{"a"}, []string{"a 2"}},
		{"removed", []string{"a", "d/", "d/x"}, []string{"-a", "d/", "d/-x"}, []string{".wh.a", "d/", "d/.wh.x"}},
		{"tree removed", []string{"d/", "d/x"}, []string{"-d"}, []string{".wh.d"}},
		{"made again", []string{"-a"}, []string{"a"}, []string{"a 2"}},
		{"tree made again", []string{"-d"}, []string{"d/", "d/y"}, []string{"d/", "d/.wh..wh..opq", "d/y 2"}},
		{"opaque", []string{"d/", "d/x"}, []string{"d/!", "d/y"}, []string{"d/", "d/.wh..wh..opq", "d/y 2"}},
		{"opaque below", []string{"d/!", "d/x"}, []string{"d/", "d/y"}, []string{"d/", "d/.wh..wh..opq", "d/x 1", "d/y 2"}},
		{"file over tree", []string{"d/", "d/x"}, []string{"d"}, []string{"d 2"}},
		{"tree over file", []string{"d"}, []string{"d/", "d/y"}, []string{"d/", "d/.wh..wh..opq", "d/y 2"}},
		{"links", []string{"a"}, []string{"d/", "d/b", "d/c=d/b"}, []string{"a 1", "d/", "d/b 2", "d/c -> d/b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			into := layerOf(t, "")
			for _, l := range []*os.File{layerOf(t, "1", tt.lower...), layerOf(t, "2", tt.upper...)} {
				if err := Merge(l, into); err != nil {
					t.Fatal(err)
				}
			}
			got := entriesOf(t, into)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestForget(t *testing.T) {
	tests := []struct {
		name         string
		base         [][]string
		merged, want []string
	}{
		{"not below", nil, []string{"-a", "d/", "d/-x"}, []string{"d/"}},
		{"below", [][]string{{"a", "d/", "d/x"}}, []string{"-a", "d/", "d/-x"}, []string{".wh.a", "d/", "d/.wh.x"}},
		{"removed by the base", [][]string{{"a", "d/", "d/x"}, {"-a", "-d"}}, []string{"-a", "d/", "d/-x"}, []string{"d/"}},
		{"made again by the base", [][]string{{"a"}, {"-a"}, {"a"}}, []string{"-a"}, []string{".wh.a"}},
		{"hidden by the base", [][]string{{"d/", "d/x"}, {"d/!", "d/y"}}, []string{"d/", "d/-x", "d/-y"}, []string{"d/", "d/.wh.y"}},
		{"a file hides a tree", [][]string{{"d/", "d/x"}, {"d"}}, []string{"d/", "d/-x"}, []string{"d/"}},
		{"opaque over nothing", [][]string{{"b"}}, []string{"d/!", "d/x"}, []string{"d/", "d/x 2"}},
		{"opaque over a tree", [][]string{{"d/", "d/y"}}, []string{"d/!", "d/x", "d/-y"}, []string{"d/", "d/.wh..wh..opq", "d/x 2"}},
		{"opaque over a file", [][]string{{"d"}}, []string{"d/!"}, []string{"d/", "d/.wh..wh..opq"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var base []*os.File
			for _, l := range tt.base {
				base = append(base, layerOf(t, "1", l...))
			}
			merged := layerOf(t, "2", tt.merged...)
			at := time.Unix(1_600_000_000, 0)
			if _, err := Lstat(merged, "d"); err == nil {
				if err := os.Chtimes(filepath.Join(merged.Name(), "d"), at, at); err != nil {
					t.Fatal(err)
				}
			}
			if err := Forget(merged, base); err != nil {
				t.Fatal(err)
			}
			got := entriesOf(t, merged)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
			if st, err := Lstat(merged, "d"); err == nil && st.Mtim.Sec != at.Unix() {
				t.Errorf("the directory's time is %d, was %d", st.Mtim.Sec, at.Unix())
			}
		})
	}
}

// entriesOf reads an upper directory as the archive that becomes of it, sorted: names with what is in them, links with their targets.
func entriesOf(t *testing.T, dir *os.File) []string {
	t.Helper()
	var b bytes.Buffer
	if err := Tar(&b, dir, TarOptions{Changes: true}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSpace(h.Name + " " + string(data))
		if h.Typeflag == tar.TypeLink {
			line = h.Name + " -> " + h.Linkname
		}
		got = append(got, line)
	}
	slices.Sort(got)
	return got
}
