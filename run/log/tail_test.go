package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lines reads a log as its lines, with their streams.
func lines(t *testing.T, path string, o Options, tail int) (all []string) {
	t.Helper()
	if err := Read(context.Background(), path, o, ReadOptions{Tail: tail}, func(e Entry) error {
		all = append(all, fmt.Sprintf("%v %s", e.Stderr, e.Line))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// The last lines are those of the whole log, however they were printed: in pieces, on both streams, over rotated files.
func TestTailIsTheEndOfAll(t *testing.T) {
	for round := range 30 {
		r := rand.New(rand.NewPCG(uint64(round), 1))
		for _, driver := range []string{Local, JSONFile} {
			path := filepath.Join(t.TempDir(), "log")
			o := Options{Driver: driver, MaxSize: []int64{0, 400, 4000}[round%3], MaxFiles: 1 + round%4}
			w, err := Create(path, o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range r.IntN(200) {
				var b bytes.Buffer
				for range r.IntN(4) {
					fmt.Fprintf(&b, "%d%s", i, strings.Repeat("x", r.IntN(30)))
					if r.IntN(3) > 0 {
						b.WriteByte('\n')
					}
				}
				w.Write(r.IntN(3) == 0, b.Bytes())
			}
			w.Write(false, []byte("\n")) // what is unfinished for long is no line to look for from the end
			w.Write(true, []byte("\nunfinished"))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			all := lines(t, path, o, -1)
			for _, n := range []int{0, 1, 2, 3, 4, 7, len(all) / 2, len(all), len(all) + 1} {
				want := all[max(len(all)-n, 0):]
				if got := lines(t, path, o, n); strings.Join(got, "|") != strings.Join(want, "|") {
					t.Fatalf("round %d, %s, the last %d of %d:\n%q, want\n%q", round, driver, n, len(all), got, want)
				}
			}
		}
	}
}

// Of a long log only the end is read.
func TestTailReadsTheEnd(t *testing.T) {
	for _, driver := range []string{Local, JSONFile} {
		path := filepath.Join(t.TempDir(), "log")
		o := Options{Driver: driver, MaxFiles: 1}
		w, err := Create(path, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20000 {
			w.Write(i%7 == 0, fmt.Appendf(nil, "line %d\n", i))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		file, at, err := tailStart([]*os.File{f}, driver, 10)
		if file != 0 || st.Size()-at > 5000 || err != nil {
			t.Errorf("%s: of %d bytes from %d on: %v", driver, st.Size(), at, err)
		}
	}
}

// Logs of older versions have no lengths behind the frames.
func TestTailOfOldLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var b []byte
	for i := range 100 {
		text := fmt.Sprintf("line %d\n", i)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, make([]byte, 12)...)
		b = append(b, text...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Driver: Local, MaxFiles: 1}
	// It is continued by this one.
	w, err := Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(false, []byte("and on\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "and on\n", 2: "line 99\nand on\n", 3: "line 98\nline 99\nand on\n"} {
		if got := read(t, path, o, ReadOptions{Tail: n}); got != want {
			t.Errorf("the last %d: %q", n, got)
		}
	}
	if got := read(t, path, o, ReadOptions{Tail: -1}); strings.Count(got, "\n") != 101 {
		t.Errorf("all: %q", got)
	}
}

// Of whatever can be read whole the end can be read too, and is no more than was asked for.
func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "log")
	w, err := Create(path, Options{Driver: Local})
	if err != nil {
		f.Fatal(err)
	}
	w.Write(false, []byte("one\ntw"))
	w.Write(true, []byte("err\n"))
	w.Write(false, []byte("o\n"))
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	frames, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frames, false, 1)
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2020-01-01T00:00:00Z"}`+"\n"), true, 1)
	f.Fuzz(func(t *testing.T, data []byte, json bool, n int) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		o := Options{Driver: Local, MaxFiles: 1}
		if json {
			o.Driver = JSONFile
		}
		count := func(tail int) (got int, err error) {
			err = Read(context.Background(), path, o, ReadOptions{Tail: tail}, func(Entry) error { got++; return nil })
			return got, err
		}
		if _, err := count(-1); err != nil {
			return
		}
		n = max(n%100, 0)
		if got, err := count(n); err != nil || got > n {
			t.Fatalf("%d of the last %d: %v", got, n, err)
		}
	})
}
