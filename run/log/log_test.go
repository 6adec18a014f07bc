package log

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
)

func read(t *testing.T, path string, o Options, ro ReadOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := Read(context.Background(), path, o, ro, func(e Entry) error { out.Write(e.Line); return nil }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWriteAndRead(t *testing.T) {
	for _, driver := range []string{Local, JSONFile} {
		t.Run(driver, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			o, err := ParseOptions(driver, nil)
			if err != nil {
				t.Fatal(err)
			}
			w, err := Create(path, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{"one\ntw", "o\nthree\n", "unfinished"} {
				w.Write(false, []byte(s))
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path, o, ReadOptions{Tail: -1}); got != "one\ntwo\nthree\nunfinished" {
				t.Errorf("all: %q", got)
			}
			if got := read(t, path, o, ReadOptions{Tail: 2}); got != "three\nunfinished" {
				t.Errorf("tail: %q", got)
			}
			if got := read(t, path, o, ReadOptions{Tail: -1, Follow: true, Alive: func() bool { return false }}); got != "one\ntwo\nthree\nunfinished" {
				t.Errorf("follow: %q", got)
			}
		})
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	o := Options{Driver: Local, MaxSize: 120, MaxFiles: 3}
	w, err := Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		w.Write(false, []byte{'a' + byte(i%26), '\n'})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := read(t, path, o, ReadOptions{Tail: -1})
	if len(got) < 20 || len(got) > 40 || got[len(got)-2] != 'a'+99%26 {
		t.Fatalf("got %q", got)
	}
}
