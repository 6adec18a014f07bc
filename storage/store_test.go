package storage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/image"
)

// open opens the store under dir; it is closed by the test or at its end.
func open(t *testing.T, dir string, extra ...string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run"), AdditionalImageStores: extra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// archive is a tar archive of files.
func archive(t *testing.T, files map[string]string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Uid: 33, Gid: 33}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// put makes an image of one layer with one file.
func put(t *testing.T, s *Store, text string, names ...string) string {
	t.Helper()
	l, err := s.PutLayer("", archive(t, map[string]string{"hello": text}))
	if err != nil {
		t.Fatal(err)
	}
	config := `{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","config":{"Cmd":["/hello"],"Healthcheck":{"Test":["CMD","x"]},"OnBuild":["RUN y"]},` +
		`"rootfs":{"type":"layers","diff_ids":["` + l.DiffID + `"]}}`
	id, err := s.PutImage([]Layer{l}, []byte(config), names...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reconcile(); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPutImage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := put(t, s, "world", "hello", "example.com/hello:1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(filepath.Join(dir, "data")).Find("hello") // as the front reads it
	if err != nil {
		t.Fatal(err)
	}
	if img.ID != id || len(img.Layers) != 1 || img.Health == nil || len(img.OnBuild) != 1 || img.Created.Year() != 2026 || img.Size == 0 {
		t.Errorf("the index has %+v", img)
	}
	data, err := os.ReadFile(filepath.Join(img.Layers[0], "hello"))
	if err != nil || string(data) != "world" {
		t.Errorf("the layer has %q, %v", data, err)
	}
	names, err := image.Open(filepath.Join(dir, "data")).Names()
	if want := []string{"docker.io/library/hello:latest", "example.com/hello:1"}; err != nil || !slices.Equal(names[id], want) {
		t.Errorf("names are %v, %v; want %v", names[id], err, want)
	}
}

// Docker's spelling of a health check's options is another than the index's.
func TestHealthOptions(t *testing.T) {
	var entry image.Image
	must(t, parseConfig([]byte(`{"config":{"Healthcheck":{"Test":["CMD","x"],"Interval":1,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5}}}`), &entry))
	want := image.Health{Test: []string{"CMD", "x"}, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5}
	if entry.Health == nil || !reflect.DeepEqual(*entry.Health, want) {
		t.Errorf("got %+v, want %+v", entry.Health, want)
	}
}

// The id of a layer is the one that pulling gives it, so that what is pulled, loaded, imported and built shares layers.
func TestLayerID(t *testing.T) {
	s := open(t, t.TempDir())
	var plain, packed bytes.Buffer
	if _, err := io.Copy(&plain, archive(t, map[string]string{"a": "b"})); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&packed)
	_, err := z.Write(plain.Bytes())
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	first, err := s.PutLayer("", bytes.NewReader(packed.Bytes()))
	must(t, err)
	sum := hexSum(plain.Bytes())
	if first.ID != sum || first.DiffID != "sha256:"+sum || first.Size != int64(plain.Len()) {
		t.Errorf("got %+v, want %s", first, sum)
	}
	again, err := s.PutLayer("", bytes.NewReader(plain.Bytes()))
	must(t, err)
	if again != first {
		t.Errorf("the same layer is %+v and %+v", first, again)
	}
	above, err := s.PutLayer(first.ID, bytes.NewReader(plain.Bytes()))
	must(t, err)
	if want := hexSum([]byte(sum + "+" + sum)); above.ID != want {
		t.Errorf("got %s, want %s", above.ID, want)
	}
	if l, ok := s.HasLayer(above.DiffID, first.ID); !ok || l != above {
		t.Errorf("got %+v, %t", l, ok)
	}
	if _, ok := s.HasLayer("sha256:../x", ""); ok {
		t.Error("a digest that is none has a layer")
	}
}

func TestTag(t *testing.T) {
	s := open(t, t.TempDir())
	one, two := put(t, s, "1", "one"), put(t, s, "2", "two")
	if err := s.Tag("one", "two"); err != nil {
		t.Fatal(err)
	}
	if img, err := s.Find("two"); err != nil || img.ID != one {
		t.Errorf("two is %v, %v; want %s", img, err, one)
	}
	if names, err := s.Index.Names(); err != nil || len(names[two]) != 0 {
		t.Errorf("the old image keeps %v, %v", names[two], err)
	}
	if err := s.Tag("none", "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("tagging an unknown image gives %v", err)
	}
	for _, bad := range []string{"UPPER", "a@sha256:" + strings.Repeat("0", 64), ""} {
		if err := s.Tag("one", bad); err == nil {
			t.Errorf("tagging as %q works", bad)
		}
	}
}

func TestRemove(t *testing.T) {
	stopped, running := []User{{ID: strings.Repeat("c", 64)}}, []User{{ID: strings.Repeat("c", 64), Running: true}}
	for name, c := range map[string]struct {
		names []string
		word  string // "" is the id
		force bool
		users []User
		fails string // a part of the error
		gone  bool
		left  int // names
	}{
		"last name":                         {names: []string{"a"}, word: "a", gone: true},
		"one of two names":                  {names: []string{"a", "b"}, word: "a", left: 1},
		"id with one name":                  {names: []string{"a"}, gone: true},
		"id with tags of one repository":    {names: []string{"a:1", "a:2"}, gone: true},
		"id in two repositories":            {names: []string{"a", "b"}, fails: "multiple repositories", left: 2},
		"id in two repositories, forced":    {names: []string{"a", "b"}, force: true, gone: true},
		"name used by stopped":              {names: []string{"a"}, word: "a", users: stopped, fails: "(must force) - container cccccccccccc", left: 1},
		"name used by stopped, forced":      {names: []string{"a"}, word: "a", users: stopped, force: true},
		"one of two names used by running":  {names: []string{"a", "b"}, word: "b", users: running, left: 1},
		"id used by stopped":                {names: []string{"a"}, users: stopped, fails: "(must be forced) - image is being used by stopped", left: 1},
		"id used by running":                {names: []string{"a"}, users: running, fails: "(cannot be forced)", left: 1},
		"id used by running, forced":        {names: []string{"a"}, users: running, force: true, fails: "(cannot be forced)", left: 1},
		"last name used by running, forced": {names: []string{"a"}, word: "a", users: running, force: true},
		"id without a name":                 {gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			id := put(t, s, "x", c.names...)
			word := c.word
			if word == "" {
				word = id[:12]
			}
			done, err := s.Remove(word, RemoveOptions{Force: c.force, Users: func(string) ([]User, error) { return c.users, nil }})
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Fatalf("Remove gives %v, %v", done, err)
			}
			if _, err := s.Index.Load(id); (err != nil) != c.gone {
				t.Errorf("the image is there: %v; want gone %v", err, c.gone)
			}
			if _, err := s.lib.Image(id); (err != nil) != c.gone {
				t.Errorf("the image is in the store: %v; want gone %v", err, c.gone)
			}
			if layers, err := s.lib.Layers(); err != nil || (len(layers) == 0) != c.gone {
				t.Errorf("there are layers %v, %v; want gone %v", layers, err, c.gone)
			}
			if names, err := s.Index.Names(); err != nil || len(names[id]) != c.left {
				t.Errorf("names are %v, %v; want %d", names[id], err, c.left)
			}
		})
	}
}

// TestReconcile has the index and the store differ in the ways that crashes leave them.
func TestReconcile(t *testing.T) {
	for name, c := range map[string]struct {
		crash func(t *testing.T, s *Store, id string)
		gone  bool
	}{
		"image not in the index":  {crash: func(t *testing.T, s *Store, id string) { must(t, s.Index.Delete(id)) }},
		"name not in the index":   {crash: func(t *testing.T, s *Store, _ string) { must(t, s.Index.Untag("docker.io/library/a:latest")) }},
		"name in the index only":  {crash: func(t *testing.T, s *Store, id string) { must(t, s.Index.Tag("docker.io/library/b:latest", id)) }},
		"image in the index only": {gone: true, crash: func(t *testing.T, s *Store, id string) { _, err := s.lib.DeleteImage(id, true); must(t, err) }},
		"image file cut off": {crash: func(t *testing.T, s *Store, id string) {
			must(t, os.WriteFile(s.data+"/images/"+id+".json", []byte(`{"ver`), 0o600))
		}},
		"the whole index is gone":        {crash: func(t *testing.T, s *Store, _ string) { must(t, os.RemoveAll(s.data+"/images")) }},
		"nothing happened":               {crash: func(*testing.T, *Store, string) {}},
		"the layers are somewhere else":  {crash: moveLayers},
		"index of a future digest of it": {crash: wrongDigest},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			id := put(t, s, "x", "a")
			c.crash(t, s, id)
			must(t, s.Reconcile())
			img, err := s.Index.Find("a")
			if (err != nil) != c.gone {
				t.Fatalf("a is %v, %v", img, err)
			}
			names, err := s.Index.Names()
			if err != nil || !c.gone && !slices.Equal(names[id], []string{"docker.io/library/a:latest"}) {
				t.Errorf("names are %v, %v", names, err)
			}
			if !c.gone {
				if _, err := os.Stat(img.Layers[0] + "/hello"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func moveLayers(t *testing.T, s *Store, id string) {
	img, err := s.Index.Load(id)
	must(t, err)
	img.Layers[0] = "/elsewhere"
	must(t, s.Index.Put(img))
}

func wrongDigest(t *testing.T, s *Store, id string) {
	img, err := s.Index.Load(id)
	must(t, err)
	img.Digest = "sha256:" + strings.Repeat("0", 64)
	must(t, s.Index.Put(img))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAdditionalImageStore(t *testing.T) {
	other := t.TempDir()
	theirs := open(t, other)
	id := put(t, theirs, "x", "a")
	must(t, theirs.Close())
	// Elsewhere, because the library keeps the locks of a store that this process wrote to.
	elsewhere := t.TempDir()
	must(t, exec.Command("cp", "-a", filepath.Join(other, "data", "storage"), elsewhere).Run())

	s := open(t, t.TempDir(), filepath.Join(elsewhere, "storage"))
	if got, err := s.Present("a"); err != nil || got == nil || got.ID != id {
		t.Fatalf("the other store's image is %v, %v", got, err)
	}
	if got, err := s.Present("b"); err != nil || got != nil {
		t.Errorf("an image that is nowhere is %v, %v", got, err)
	}
	must(t, s.Tag("a", "mine"))
	for _, name := range []string{"a", "mine"} {
		if img, err := s.Find(name); err != nil || !strings.HasPrefix(img.Layers[0], elsewhere) {
			t.Errorf("%s is %+v, %v", name, img, err)
		}
	}
	if _, err := Open(t.Context(), Options{Data: t.TempDir(), Run: t.TempDir(), AdditionalImageStores: []string{"/nonexistent"}}); err == nil {
		t.Error("a missing additional store is accepted")
	}
}

func TestSweep(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "kept", "a")
	if _, err := s.PutLayer("", archive(t, map[string]string{"left": "over"})); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.Writing()
	must(t, err)
	if n, err := s.Sweep(); err != nil || n != 0 {
		t.Errorf("while somebody writes, Sweep frees %d, %v", n, err)
	}
	must(t, unlock())
	if n, err := s.Sweep(); err != nil || n == 0 {
		t.Errorf("Sweep frees %d, %v", n, err)
	}
	if layers, err := s.lib.Layers(); err != nil || len(layers) != 1 {
		t.Errorf("%d layers are left, %v", len(layers), err)
	}
}

func TestScratch(t *testing.T) {
	parent := t.TempDir()
	held, err := newScratch(parent)
	must(t, err)
	dead := filepath.Join(parent, "dead")
	must(t, os.Mkdir(dead, 0o700))
	must(t, os.WriteFile(filepath.Join(dead, "lock"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dead, "big"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(parent, "empty"), 0o700))
	half := filepath.Join(parent, "half") // its owner was killed while it removed it, and the lock goes early
	must(t, os.Mkdir(half, 0o700))
	must(t, os.WriteFile(filepath.Join(half, "zero"), []byte("x"), 0o600))
	next, err := newScratch(parent)
	must(t, err)
	entries, err := os.ReadDir(parent)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("left are %v", entries)
	}
	must(t, held.remove())
	must(t, next.remove())
	if lock, err := disk.Locked(filepath.Join(held.dir, "lock")); err != nil || lock {
		t.Errorf("still locked: %v, %v", lock, err)
	}
}

func TestBadLayer(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.PutLayer("", strings.NewReader(strings.Repeat("no archive ", 100))); err == nil {
		t.Error("a layer that is no archive is accepted")
	}
	if layers, err := s.lib.Layers(); err != nil || len(layers) != 0 {
		t.Errorf("left are %v, %v", layers, err)
	}
}
