package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
)

func open(t testing.TB) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(Options{Root: dir + "/data", RunRoot: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t testing.TB, s *Store, name string) *Container {
	t.Helper()
	c := &Container{Version: Version, ID: NewID(), Name: name, Created: time.Now(), Config: config.Config{Remove: true}}
	p, err := s.Begin(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFind(t *testing.T) {
	s := open(t)
	a, b := create(t, s, "web"), create(t, s, "")
	for _, tt := range []struct{ ask, want string }{{"web", a.ID}, {a.ID, a.ID}, {b.ID[:12], b.ID}, {b.Name, b.ID}} {
		got, err := s.Find(tt.ask)
		if err != nil || got.ID != tt.want {
			t.Errorf("Find(%q): %v, %v", tt.ask, got, err)
		}
	}
	for _, ask := range []string{"nobody", "", "../x", "/", "zz"} {
		if _, err := s.Find(ask); !errors.Is(err, ErrNotFound) {
			t.Errorf("Find(%q): %v", ask, err)
		}
	}
}

func TestOneOfManyWinsAName(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	won := make(chan string, 32)
	for range 32 {
		wg.Go(func() {
			c := &Container{Version: Version, ID: NewID(), Name: "one", Created: time.Now()}
			p, err := s.Begin(c)
			if err != nil {
				t.Error(err)
				return
			}
			if err := p.Commit(); err == nil {
				won <- c.ID
			} else if !errors.Is(err, ErrNameInUse) {
				t.Error(err)
			} else if err := p.Abort(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d won", len(won))
	}
}

func TestRenameAndRetire(t *testing.T) {
	s := open(t)
	c := create(t, s, "old")
	create(t, s, "taken")
	if err := s.Rename(c.ID, "taken"); !errors.Is(err, ErrNameInUse) {
		t.Fatalf("got %v", err)
	}
	if err := s.Rename(c.ID, "new"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find("new"); err != nil || got.Name != "new" {
		t.Fatal(got, err)
	}
	if _, err := s.Find("old"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := s.Retire(c.ID); err != nil {
		t.Fatal(err)
	}
	create(t, s, "new")
	if err := s.Sweep(os.RemoveAll, nil); err != nil {
		t.Fatal(err)
	}
	if s.Retired() {
		t.Fatal("something is left")
	}
}

func TestStatus(t *testing.T) {
	s := open(t)
	c := create(t, s, "x")
	want := func(state State, code int) {
		t.Helper()
		st, err := s.Status(c.ID)
		if err != nil || st.State != state || (st.Exit != nil && st.Exit.Code != code) {
			t.Fatalf("got %v %v %v, want %v", st.State, st.Exit, err, state)
		}
	}
	want(Created, 0)
	lock, err := s.ClaimAlive(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ClaimAlive(c.ID); !errors.Is(err, disk.ErrLocked) {
		t.Fatal(err)
	}
	want(Created, 0)
	if err := s.WriteStarted(c.ID, Started{Life: 1}, disk.Volatile); err != nil {
		t.Fatal(err)
	}
	want(Running, 0)
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	want(Lost, 255)
	visit, err := s.ClaimVisit(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	want(Lost, 255) // whoever copies its files does not make it run
	if alive, err := s.Alive(c.ID); !alive || err != nil {
		t.Fatal("nobody is kept from starting it", err)
	}
	if _, err := s.ClaimAlive(c.ID); !errors.Is(err, disk.ErrLocked) {
		t.Fatal(err)
	}
	if err := visit.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteExit(c.ID, Exit{Life: 1, Code: 3}, disk.Volatile); err != nil {
		t.Fatal(err)
	}
	want(Exited, 3)
	if life, err := s.NextLife(c.ID); err != nil || life != 2 {
		t.Fatal(life, err)
	}
}

func TestCorrupt(t *testing.T) {
	s := open(t)
	c := create(t, s, "broken")
	create(t, s, "fine")
	if err := os.WriteFile(filepath.Join(s.Dir(c.ID), "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("broken"); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	all, err := s.List()
	if len(all) != 1 || !errors.Is(err, ErrCorrupt) {
		t.Fatal(all, err)
	}
	id, err := s.FindID("broken")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Retire(id); err != nil {
		t.Fatal(err)
	}
	create(t, s, "broken")
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Options{Getenv: func(string) string { return "" }}); err == nil {
		t.Error("no HOME was accepted")
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Root: file}); err == nil {
		t.Error("a file was accepted as data directory")
	}
}

func TestNames(t *testing.T) {
	s := open(t)
	for _, name := range []string{"a", "A.b_c-9", strings.Repeat("n", 255)} {
		c := create(t, s, name)
		if err := s.Retire(c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(s.Data, namesDir)); err != nil || len(entries) > 0 {
		t.Fatal("names are left:", entries, err)
	}
	for _, name := range []string{"", "-a", ".a", "a/b", "a b", "a\x00", "ä", strings.Repeat("n", 256)} {
		if CheckName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

// Every step of Rename, Retire and freeName may be the last one of a process that is killed.
func TestInterrupted(t *testing.T) {
	s := open(t)
	link := func(name, id string) {
		t.Helper()
		if err := os.Symlink(id, s.nameLink(name)); err != nil {
			t.Fatal(err)
		}
	}
	c, kept := create(t, s, "web"), create(t, s, "kept")
	link("half-renamed", c.ID)
	link(".aside", NewID())
	if err := s.Retire(c.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("half-renamed"); !errors.Is(err, ErrNotFound) {
		t.Error("a dangling name is found:", err)
	}
	if err := s.Sweep(os.RemoveAll, nil); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(s.Data, namesDir))
	if err != nil || len(entries) != 1 || entries[0].Name() != "kept" {
		t.Error("not only the living container's name is left:", entries, err)
	}
	if got, err := s.Find("kept"); err != nil || got.ID != kept.ID {
		t.Error(got, err)
	}
	// Retired between the renaming of its directory and the freeing of its name.
	if err := os.Rename(s.Dir(kept.ID), s.retired(kept.ID)); err != nil {
		t.Fatal(err)
	}
	create(t, s, "kept")
}

// While a container is being made nobody sweeps it or its name.
func TestSweepSparesWhatIsBeingMade(t *testing.T) {
	s := open(t)
	c := &Container{Version: Version, ID: NewID(), Name: "web", Created: time.Now()}
	p, err := s.Begin(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.claimName(c); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(os.RemoveAll, nil); err != nil {
		t.Fatal(err)
	}
	if holder, err := s.holder("web"); err != nil || holder != c.ID {
		t.Fatal("its name was taken:", holder, err)
	}
	// Its maker is killed.
	if err := p.lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(os.RemoveAll, nil); err != nil {
		t.Fatal(err)
	}
	if s.Retired() {
		t.Error("an abandoned container is still there")
	}
	if _, err := os.Readlink(s.nameLink("web")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the name of an abandoned container is still there:", err)
	}
}

func TestRuntimeDirectory(t *testing.T) {
	dir := t.TempDir()
	env := func(xdg string) Options {
		return Options{Root: filepath.Join(dir, "data"), Getenv: func(name string) string {
			if name == "XDG_RUNTIME_DIR" {
				return xdg
			}
			return ""
		}, Getuid: os.Getuid}
	}
	own := filepath.Join(dir, "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if run, err := runRoot(env(own)); err != nil || run != filepath.Join(own, "skiff") {
		t.Error(run, err)
	}
	fallback := fmt.Sprint("/tmp/skiff-", os.Getuid())
	theirs := []string{filepath.Join(dir, "missing"), "relative", "/proc"}
	if os.Getuid() == 0 {
		other := filepath.Join(dir, "other")
		if err := errors.Join(os.Mkdir(other, 0o700), os.Chown(other, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		theirs = append(theirs[:2], other)
	}
	for _, xdg := range theirs {
		if run, err := runRoot(env(xdg)); err != nil || run != fallback {
			t.Errorf("XDG_RUNTIME_DIR=%s: %s, %v", xdg, run, err)
		}
	}
	if run, err := runRoot(Options{RunRoot: own, Getuid: os.Getuid}); err != nil || run != own {
		t.Error(run, err)
	}
}

func BenchmarkList(b *testing.B) {
	s := open(b)
	for i := range 1000 {
		create(b, s, fmt.Sprint("c", i))
	}
	for b.Loop() {
		all, err := s.List()
		if err != nil || len(all) != 1000 {
			b.Fatal(err)
		}
		for _, c := range all {
			if _, err := s.Status(c.ID); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// What one --rm container pays for the others' records.
func BenchmarkRetireAmongMany(b *testing.B) {
	s := open(b)
	for i := range 1000 {
		create(b, s, fmt.Sprint("c", i))
	}
	for b.Loop() {
		b.StopTimer()
		c := create(b, s, "")
		b.StartTimer()
		if err := s.Retire(c.ID); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.DeleteRetired(c.ID, os.RemoveAll); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// A data directory keeps its runtime directory while that is there, whatever the environment says.
func TestRunRootStays(t *testing.T) {
	data, first, second := t.TempDir(), t.TempDir(), t.TempDir()
	at := func(xdg string) string {
		s, err := Open(Options{Root: data, Getuid: os.Getuid, Getenv: func(name string) string {
			if name == "XDG_RUNTIME_DIR" {
				return xdg
			}
			return ""
		}})
		if err != nil {
			t.Fatal(err)
		}
		return s.Run
	}
	run := at(first)
	if !strings.HasPrefix(run, first) || at(second) != run || at("/nonexistent") != run {
		t.Errorf("it was %s, and is %s and %s", run, at(second), at("/nonexistent"))
	}
	if err := os.RemoveAll(filepath.Join(first, "skiff")); err != nil { // the user has logged out
		t.Fatal(err)
	}
	if run := at(second); !strings.HasPrefix(run, second) || at(first) != run {
		t.Errorf("it is %s now", run)
	}
}

// The end of a life is known when nothing more can be written: its room was reserved when it began.
func TestExitOnFullDisk(t *testing.T) {
	s := open(t)
	c := &Container{Version: Version, ID: NewID(), Name: "full", Created: time.Now()}
	p, err := s.Begin(c)
	if err == nil {
		err = p.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	for life := 1; life < 3; life++ {
		if err := s.WriteStarted(c.ID, Started{Life: life, Boot: "12345678", At: time.Now(), Pid: 4}, true); err != nil {
			t.Fatal(err)
		}
		if err := s.useReserve(c.ID, Exit{Life: life, Code: 40 + life, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		st, err := s.Status(c.ID)
		if err != nil || st.State != Exited || st.Exit.Code != 40+life {
			t.Errorf("life %d: %+v %v", life, st, err)
		}
		if err := s.useReserve(c.ID, Exit{Life: life, Code: 1}); err == nil {
			t.Errorf("life %d: the room was used twice", life)
		}
	}
}

// The anonymous volumes of a container go with it when that was asked for, also when whoever asked is killed before; so do those of one whose maker is killed.
func TestSweepTakesVolumes(t *testing.T) {
	s := open(t)
	add := func(name string) *Container {
		c := &Container{Version: Version, ID: NewID(), Name: name, Created: time.Now(), Anonymous: []string{name + "-volume"}}
		p, err := s.Begin(c)
		if err == nil {
			err = errors.Join(p.Promise(c.Anonymous), p.Commit())
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := errors.Join(s.RetireWithVolumes(add("with").ID), s.Retire(add("without").ID)); err != nil {
		t.Fatal(err)
	}
	killed := &Container{Version: Version, ID: NewID(), Created: time.Now()}
	p, err := s.Begin(killed)
	if err == nil {
		err = errors.Join(p.Promise([]string{"killed-volume", "another"}), p.lock.Unlock())
	}
	if err != nil {
		t.Fatal(err)
	}
	add("kept")
	var gone []string
	removeVolume := func(name string) error {
		gone = append(gone, name)
		return nil
	}
	if err := s.Sweep(os.RemoveAll, removeVolume); err != nil {
		t.Fatal(err)
	}
	slices.Sort(gone)
	if want := []string{"another", "killed-volume", "with-volume"}; !slices.Equal(gone, want) {
		t.Errorf("removed %v, want %v", gone, want)
	}
	if s.Retired() {
		t.Error("something is left")
	}
}

// A monitor that was killed after it had retired its container has left the runtime directory; those of containers that are there, or have a monitor, are none of these.
func TestOrphans(t *testing.T) {
	s := open(t)
	there := create(t, s, "there")
	orphan, ending := NewID(), NewID()
	var held *disk.Lock
	for _, id := range []string{there.ID, orphan, ending} {
		lock, err := s.ClaimAlive(id)
		if held = lock; err == nil && id != ending {
			err = lock.Unlock()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	defer held.Unlock()
	left, err := s.Orphans()
	if err != nil || len(left) != 1 || left[0] != orphan[:runDigits] {
		t.Fatal(left, err)
	}
	if err := s.Release(left[0]); err != nil {
		t.Fatal(err)
	}
	if left, err := s.Orphans(); err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
}

// Whatever a record's files say, a container can be listed, its state is one of those that there are, or the error names the way out; and it can be removed.
func FuzzRecord(f *testing.F) {
	id := strings.Repeat("ab", 32)
	good, err := plain.Marshal(Container{Version: Version, ID: id, Name: "web", Created: time.Unix(1, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, []byte(`{"life":1,"pid":2,"boot":"x"}`), []byte(`{"life":1,"code":137}`), []byte("web2"))
	f.Add([]byte(`{"version":99}`), []byte(`{}`), []byte(``), []byte("../../x"))
	f.Add([]byte(`{"id":"../../../etc"}`), []byte(`null`), []byte(`{"life":-9223372036854775808}`), []byte("\x00"))
	s := open(f)
	f.Fuzz(func(t *testing.T, config, started, exit, name []byte) {
		dir := s.Dir(id)
		for _, err := range []error{
			os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, configFile), config, 0o600), os.WriteFile(filepath.Join(dir, startedFile), started, 0o600),
			os.WriteFile(filepath.Join(dir, exitFile), exit, 0o600), os.WriteFile(filepath.Join(dir, nameFile), name, 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		c, err := s.Load(id)
		switch {
		case err == nil && c.ID != id:
			t.Fatalf("it is of %q", c.ID)
		case err == nil && c.Name != "" && CheckName(c.Name) != nil:
			t.Fatalf("name %q", c.Name)
		case err != nil && !errors.Is(err, ErrCorrupt) && !strings.Contains(err.Error(), "newer skiff"):
			t.Fatal(err)
		}
		if st, err := s.Status(id); err == nil {
			if st.State != Created && st.State != Exited && st.State != Lost || st.State != Created && st.Exit == nil {
				t.Fatalf("state %+v", st)
			}
			if _, err := s.NextLife(id); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if _, err := s.List(); err != nil && !errors.Is(err, ErrCorrupt) && !strings.Contains(err.Error(), "newer skiff") {
			t.Fatal(err)
		}
		if err := s.Retire(id); err != nil {
			t.Fatal(err)
		}
		if err := s.Sweep(os.RemoveAll, nil); err != nil {
			t.Fatal(err)
		}
	})
}
