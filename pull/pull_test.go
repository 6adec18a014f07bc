package pull

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/skiff-containers/skiff/storage"
)

func open(t *testing.T) *storage.Store {
	t.Helper()
	dir := t.TempDir()
	s, err := storage.Open(t.Context(), storage.Options{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rootfs is the archive of a root file system with one file.
func rootfs(t *testing.T, text string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}))
	must(t, w.WriteHeader(&tar.Header{Name: "etc/hello", Mode: 0o644, Size: int64(len(text)), Uid: 33, Gid: 33}))
	_, err := io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return &b
}

// imported imports an image, and writes the index.
func imported(t *testing.T, s *storage.Store, text, name string) string {
	t.Helper()
	id, err := Import(t.Context(), s, "-", rootfs(t, text), name, ImportOptions{Changes: []string{"CMD x", "LABEL a=b", "HEALTHCHECK CMD check"}})
	must(t, err)
	must(t, s.Reconcile())
	return id
}

func TestSaveAndLoad(t *testing.T) {
	for name, c := range map[string]struct {
		format   string
		compress func(io.Writer) (io.WriteCloser, error)
	}{
		"docker-archive":       {format: "docker-archive"},
		"docker-archive, gzip": {"docker-archive", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }},
		"oci-archive":          {format: "oci-archive"},
		"oci-archive, zstd":    {"oci-archive", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := open(t), open(t)
			one := imported(t, from, "one", "one")
			imported(t, from, "two", "example.com/two:2")
			var out bytes.Buffer
			must(t, Save(t.Context(), from, &out, []string{"one", "example.com/two:2"}, SaveOptions{Format: c.format}))
			if c.compress != nil {
				var b bytes.Buffer
				w, err := c.compress(&b)
				must(t, err)
				_, err = out.WriteTo(w)
				must(t, err)
				must(t, w.Close())
				out = b
			}
			done, err := Load(t.Context(), to, "", &out, LoadOptions{})
			must(t, err)
			var names []string
			for _, img := range done {
				names = append(names, img.Names...)
			}
			slices.Sort(names)
			if want := []string{"docker.io/library/one:latest", "example.com/two:2"}; !slices.Equal(names, want) {
				t.Errorf("loaded %v, want %v", names, want)
			}
			must(t, to.Reconcile())
			img, err := to.Find("one")
			must(t, err)
			if img.ID != one {
				t.Errorf("the image's id is %s, was %s", img.ID, one)
			}
			if data, err := os.ReadFile(img.Layers[0] + "/etc/hello"); err != nil || string(data) != "one" {
				t.Errorf("the layer has %q, %v", data, err)
			}
			if img.Config.Config.Labels["a"] != "b" {
				t.Errorf("the configuration is %+v", img.Config)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	s := open(t)
	imported(t, s, strings.Repeat("x", 1<<16), "one")
	var saved bytes.Buffer
	must(t, Save(t.Context(), s, &saved, []string{"one"}, SaveOptions{}))
	fresh := open(t)
	for name, c := range map[string]struct {
		data []byte
		want string
		kind error
	}{
		"text":             {[]byte("this is no archive"), "it is not an image archive", ErrNotArchive},
		"nothing":          {nil, "it is not an image archive", ErrNotArchive},
		"root file system": {rootfs(t, "x").Bytes(), "an archive of files", ErrNotArchive},
		"cut off":          {saved.Bytes()[:saved.Len()/2], "", nil},
		"bad manifest":     {tarOf(t, "manifest.json", "{"), "", nil},
		"no images":        {tarOf(t, "manifest.json", "[]"), "no image", nil},
		"bad OCI layout":   {tarOf(t, "oci-layout", "{}"), "", nil},
		"name that climbs": {tarOf(t, "oci-layout", "{}", "../../climbed", "x", "blobs/../../climbed", "x"), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			done, err := Load(t.Context(), fresh, "", bytes.NewReader(c.data), LoadOptions{})
			if err == nil {
				t.Fatalf("loaded %v", done)
			}
			if text := err.Error(); !strings.HasPrefix(text, "cannot load standard input: ") || !strings.Contains(text, c.want) || strings.Contains(text, "\n") {
				t.Errorf("got %q", text)
			}
			if c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("%v is not %v", err, c.kind)
			}
			if list, err := fresh.Index.List(); err != nil || len(list) != 0 {
				t.Errorf("left are %v, %v", list, err)
			}
		})
	}
}

// tarOf is an archive of files, given as names and contents.
func tarOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for f := range slices.Chunk(files, 2) {
		must(t, w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}))
		_, err := io.WriteString(w, f[1])
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func TestImportRefuses(t *testing.T) {
	s := open(t)
	for name, c := range map[string]struct{ source, in, image, want string }{
		"text":         {"-", strings.Repeat("no archive ", 100), "", "it is not a tar archive"},
		"few words":    {"-", "no archive", "", "it is not a tar archive"},
		"cut off":      {"-", rootfs(t, strings.Repeat("x", 2000)).String()[:1600], "", "the data ends early"},
		"missing file": {"/nonexistent", "", "", "does not exist"},
		"directory":    {"/", "", "", "it is a directory"},
		"bad name":     {"-", "", "UPPER", "lower case"},
		"no server":    {"http://127.0.0.1:1/x.tar", "", "", "nothing listens at 127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(t.Context(), s, c.source, strings.NewReader(c.in), c.image, ImportOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// registry starts a registry on the loopback interface, which is gone at the test's end. It returns its address and its directory.
func registry(t *testing.T) (address, dir string) {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address, dir = l.Addr().String(), t.TempDir()
	must(t, l.Close())
	config := filepath.Join(t.TempDir(), "config.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, address), 0o600))
	cmd := exec.CommandContext(t.Context(), program, "serve", config)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 100 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v2/", nil)
		must(t, err)
		if response, err := http.DefaultClient.Do(request); err == nil {
			must(t, response.Body.Close())
			return address, dir
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the registry does not answer")
	return "", ""
}

func TestPushAndPull(t *testing.T) {
	address, dir := registry(t)
	from := open(t)
	name := address + "/some/image:1"
	id := imported(t, from, strings.Repeat("hello ", 1000), name)
	pushed, err := Push(t.Context(), from, name, "", PushOptions{})
	must(t, err)

	t.Run("pull", func(t *testing.T) {
		to := open(t)
		var kinds []Kind
		done, pullErr := Pull(t.Context(), to, name, Options{Progress: func(e Event) { kinds = append(kinds, e.Kind) }})
		must(t, pullErr)
		must(t, to.Reconcile())
		img, findErr := to.Find(name)
		must(t, findErr)
		if img.ID != id || done[0].ID != id || img.Digest != pushed.Digest {
			t.Errorf("got %s with digest %s; pushed %s with %s", img.ID, img.Digest, id, pushed.Digest)
		}
		if kinds[0] != Begin || kinds[len(kinds)-1] != End || !slices.Contains(kinds, Finish) {
			t.Errorf("events are %v", kinds)
		}
	})
	t.Run("pull by digest", func(t *testing.T) {
		to := open(t)
		byDigest := address + "/some/image@" + pushed.Digest
		_, err = Pull(t.Context(), to, byDigest, Options{})
		must(t, err)
		must(t, to.Reconcile())
		if img, findErr := to.Find(byDigest); findErr != nil || img.ID != id {
			t.Errorf("found %v, %v", img, findErr)
		}
	})
	t.Run("all tags", func(t *testing.T) {
		_, err = Push(t.Context(), from, name, address+"/some/image:2", PushOptions{})
		must(t, err)
		done, pullErr := Pull(t.Context(), open(t), address+"/some/image", Options{AllTags: true})
		if pullErr != nil || len(done) != 2 {
			t.Errorf("got %v, %v", done, pullErr)
		}
	})
	t.Run("refused", func(t *testing.T) {
		to := open(t)
		for asked, kind := range map[string]error{
			address + "/some/image:none": ErrNotFound, address + "/none": ErrNotFound, "127.0.0.1:1/x": ErrUnreachable,
			address + "/some/image@sha256:" + strings.Repeat("0", 64): ErrNotFound,
		} {
			if _, err = Pull(t.Context(), to, asked, Options{}); !errors.Is(err, kind) {
				t.Errorf("%s: got %v, want %v", asked, err, kind)
			}
		}
		_, err = Pull(t.Context(), to, name, Options{Platform: Platform{"linux", "s390x", ""}})
		if !errors.Is(err, ErrNoPlatform) || !strings.Contains(err.Error(), "only for linux/") {
			t.Errorf("another platform: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err = Pull(ctx, to, name, Options{}); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("cancelled: %v", err)
		}
		if layers, listErr := to.Library().Layers(); listErr != nil || len(layers) != 0 {
			t.Errorf("left are %v, %v", layers, listErr)
		}
	})
	// From here on the registry is damaged.
	blob := largestBlob(t, dir)
	data, err := os.ReadFile(blob)
	must(t, err)
	for what, damaged := range map[string][]byte{"cut off": data[:len(data)/2], "changed": append([]byte("x"), data[1:]...)} {
		t.Run("layer "+what, func(t *testing.T) {
			must(t, os.WriteFile(blob, damaged, 0o600))
			to := open(t)
			if _, err := Pull(t.Context(), to, name, Options{}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			if layers, err := to.Library().Layers(); err != nil || len(layers) != 0 {
				t.Errorf("left are %v, %v", layers, err)
			}
		})
	}
}

// largestBlob is the file of the image's layer in a registry's directory: of gzip, unlike the rest.
func largestBlob(t *testing.T, dir string) (found string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "data" {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			found = path
		}
		return err
	}))
	if found == "" {
		t.Fatal("there is no layer in the registry")
	}
	return found
}
