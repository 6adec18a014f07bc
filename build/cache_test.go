package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/moby/buildkit/solver"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/image"
)

// The journal remembers across openings, through a line that a killed build left unfinished and what others appended meanwhile.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	open := func() *journal {
		j, err := openJournal(dir)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	link := solver.CacheInfoLink{Digest: "sha256:x"}
	add := func(j *journal, id, result string) {
		if err := j.AddResult(id, solver.CacheResult{ID: result, CreatedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	one, two := open(), open()
	add(one, "key1", "step1")
	add(two, "key2", "step2")
	add(one, "key1", "0xc000") // a result of this process only
	if err := one.AddLink("key1", link, "key2"); err != nil {
		t.Fatal(err)
	}
	if _, err := one.file.WriteString("\n{\"id\":\"key9\",\"resu"); err != nil {
		t.Fatal(err)
	}
	add(two, "key3", "step3")
	add(two, "key4", "step4")
	if err := two.Release("step4"); err != nil {
		t.Fatal(err)
	}
	for _, j := range []*journal{one, two} {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	again := open()
	defer func() { _ = again.Close() }()
	for id, want := range map[string]string{"key1": "step1", "key2": "step2", "key3": "step3"} {
		if _, err := again.Load(id, want); err != nil {
			t.Errorf("%s lost its result %s: %v", id, want, err)
		}
	}
	if _, err := again.Load("key1", "0xc000"); err == nil {
		t.Error("a result of another process was remembered")
	}
	if _, err := again.Load("key4", "step4"); err == nil {
		t.Error("a result that was let go is still there")
	}
	if !again.HasLink("key1", link, "key2") {
		t.Error("the link is lost")
	}
}

// A digest is remembered for exactly the file and state it was computed of, and only when that state is some seconds old.
func TestHashes(t *testing.T) {
	dir := t.TempDir()
	const text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	old := unix.Stat_t{Dev: 1, Ino: 2, Size: 3, Mtim: unix.Timespec{Sec: 4}, Ctim: unix.Timespec{Sec: 5}}
	now := unix.NsecToTimespec(time.Now().UnixNano())
	young := unix.Stat_t{Dev: 1, Ino: 3, Size: 3, Mtim: now, Ctim: now}
	h := openHashes(dir)
	h.Put(&old, text)
	h.Put(&young, text)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openHashes(dir)
	if got, ok := h.Get(&old); !ok || got != text {
		t.Errorf("got %q, %v", got, ok)
	}
	if _, ok := h.Get(&young); ok {
		t.Error("a file that may still be changing was remembered")
	}
	for name, change := range map[string]func(*unix.Stat_t){
		"size": func(st *unix.Stat_t) { st.Size++ }, "mtime": func(st *unix.Stat_t) { st.Mtim.Nsec++ }, "ctime": func(st *unix.Stat_t) { st.Ctim.Nsec++ },
		"inode": func(st *unix.Stat_t) { st.Ino++ }, "device": func(st *unix.Stat_t) { st.Dev++ },
	} {
		other := old
		change(&other)
		if _, ok := h.Get(&other); ok {
			t.Errorf("another %s is taken for the same file", name)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, hashesFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := openHashes(dir).Get(&old); ok {
		t.Error("a damaged file was read")
	}
}

// When there are too many digests, those stay that the last build asked for.
func TestHashesAreBounded(t *testing.T) {
	dir := t.TempDir()
	const text = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	file := func(ino uint64) *unix.Stat_t { return &unix.Stat_t{Ino: ino} }
	h := openHashes(dir)
	for ino := range uint64(10) {
		h.Put(file(ino), text)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openHashes(dir)
	h.most = 10
	h.Get(file(3))
	h.Put(file(11), text)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = openHashes(dir)
	for ino := range uint64(12) {
		if _, ok := h.Get(file(ino)); ok != (ino == 3 || ino == 11) {
			t.Errorf("file %d: %v", ino, ok)
		}
	}
}

func TestBalance(t *testing.T) {
	base := time.Unix(100, 0).UTC()
	step := time.Unix(200, 0).UTC()
	epoch := time.Unix(50, 0).UTC()
	tests := []struct {
		name    string
		history []image.History
		times   []time.Time
		epoch   *time.Time
		want    []int64 // times; negative: an empty layer
		created int64
	}{
		{"a layer and a line without one", []image.History{{Created: &base}, {}, {EmptyLayer: true}}, []time.Time{{}, step}, nil, []int64{100, 200, -200}, 200},
		{"more layers than lines", []image.History{{Created: &base}}, []time.Time{{}, step}, nil, []int64{100, 200}, 200},
		{"more lines than layers", []image.History{{Created: &base}, {}}, []time.Time{{}}, nil, []int64{100, -100}, 100},
		{"an epoch", []image.History{{Created: &base}, {}}, []time.Time{{}, step}, &epoch, []int64{100, 50}, 50},
		{"nothing", nil, nil, nil, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			history, created := balance(tt.history, tt.times, tt.epoch)
			var got []int64
			for _, h := range history {
				n := h.Created.Unix()
				if h.EmptyLayer {
					n = -n
				}
				got = append(got, n)
			}
			if !slices.Equal(got, tt.want) || created.Unix() != tt.created {
				t.Errorf("got %v, created %d; want %v, %d", got, created.Unix(), tt.want, tt.created)
			}
		})
	}
}
