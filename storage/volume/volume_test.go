package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "A.b_c-9", strings.Repeat("a", 255), strings.Repeat("0", 64)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", ".a", "-a", "a/b", "./a", "a b", "a\x00", "ä", strings.Repeat("a", 256)} {
		if CheckName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestLife(t *testing.T) {
	s := Open(t.TempDir())
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	v, created, err := s.Create(Volume{Name: "data", Labels: map[string]string{"a": "1"}})
	if err != nil || !created || v.Driver != "local" || v.Labels["a"] != "1" {
		t.Fatal(v, created, err)
	}
	if st, err := os.Stat(v.Mountpoint); err != nil || st.Mode().Perm() != 0o755 {
		t.Error(st, err)
	}
	if again, created, err := s.Create(Volume{Name: "data"}); err != nil || created || again.Labels["a"] != "1" {
		t.Error("an existing volume was made again:", again, created, err)
	}
	for _, want := range []bool{true, false} {
		if fresh, err := s.NeedsCopy("data"); err != nil || fresh != want {
			t.Error("NeedsCopy:", fresh, err)
		}
		if err := s.MarkFilled("data"); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 1 { // the lock
		t.Error("something is left:", entries, err)
	}
}

func TestOneOfManyCreates(t *testing.T) {
	s := Open(t.TempDir())
	var wg sync.WaitGroup
	made := make(chan bool, 32)
	for range cap(made) {
		wg.Go(func() {
			_, created, err := s.Create(Volume{Name: "one"})
			if err != nil {
				t.Error(err)
			}
			if created {
				made <- true
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%d created it", len(made))
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 2 { // and the lock
		t.Error("something is left:", entries, err)
	}
}

func TestRefused(t *testing.T) {
	s := Open(t.TempDir())
	for name, v := range map[string]Volume{
		"name": {Name: "a/b"}, "driver": {Name: "a", Driver: "nfs"}, "options": {Name: "a", Options: map[string]string{"type": "nfs"}},
		"no device": {Name: "a", Options: map[string]string{"type": "none", "o": "bind"}}, "relative device": {Name: "a", Options: map[string]string{"o": "bind", "device": "x"}},
		"not a bind": {Name: "a", Options: map[string]string{"type": "none", "device": "/x"}}, "read-only": {Name: "a", Options: map[string]string{"o": "bind,ro", "device": "/x"}},
		"tmpfs": {Name: "a", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}, "unknown": {Name: "a", Options: map[string]string{"size": "1"}},
	} {
		if _, _, err := s.Create(v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, name := range []string{"nobody", "..", "a/b", ""} {
		if _, err := s.Find(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
		if err := s.Remove(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refusal made something:", err)
	}
}

func TestListGoesOnAfterDamage(t *testing.T) {
	s := Open(t.TempDir())
	for _, name := range []string{"b", "a", "broken"} {
		if _, _, err := s.Create(Volume{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(s.dir, "broken", metaFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := s.List()
	if len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Error(all)
	}
	if err == nil || !strings.Contains(err.Error(), "broken") || !strings.Contains(err.Error(), file) {
		t.Errorf("the error does not name the file: %v", err)
	}
	// The way out of a damaged volume is to remove it.
	if err := s.Remove("broken"); err != nil {
		t.Error("a damaged volume cannot be removed:", err)
	}
}
