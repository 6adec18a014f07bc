package build

// This file remembers the digests of files between builds, by what stat(2) says of them.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// hashesFile is in the build directory: records of a stamp and a digest.
const hashesFile = "hashes"

// A file that changed less than settled ago may change again without its times telling; maxHashes bounds the file to 36 MB.
const (
	settled   = 2 * time.Second
	maxHashes = 500_000
)

// stamp is what tells a file and its state from others: device, inode, size, times of change.
type stamp [40]byte

func stampOf(st *unix.Stat_t) (s stamp) {
	for i, v := range []uint64{st.Dev, st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())} {
		binary.LittleEndian.PutUint64(s[i*8:], v)
	}
	return s
}

type sum [32]byte

// hashes is a files.Remember.
type hashes struct {
	path string
	most int // files
	mu   sync.Mutex
	old  map[stamp]sum // as read; nil until it is needed
	used map[stamp]sum // of those, what this build asked for
	now  map[stamp]sum // found out in this build
}

func openHashes(dir string) *hashes {
	return &hashes{path: filepath.Join(dir, hashesFile), most: maxHashes, used: map[stamp]sum{}, now: map[stamp]sum{}}
}

// Get implements files.Remember.
func (h *hashes) Get(st *unix.Stat_t) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.old == nil {
		h.read()
	}
	key := stampOf(st)
	s, ok := h.now[key]
	if !ok {
		if s, ok = h.old[key]; ok {
			h.used[key] = s
		}
	}
	return hex.EncodeToString(s[:]), ok
}

// read loads the file; one that is missing or damaged is an empty memory.
func (h *hashes) read() {
	h.old = map[stamp]sum{}
	data, err := os.ReadFile(h.path)
	const size = len(stamp{}) + len(sum{})
	if err != nil || len(data)%size != 0 {
		return
	}
	h.old = make(map[stamp]sum, len(data)/size)
	for ; len(data) > 0; data = data[size:] {
		h.old[stamp(data)] = sum(data[len(stamp{}):])
	}
}

// Put implements files.Remember.
func (h *hashes) Put(st *unix.Stat_t, text string) {
	var s sum
	if n, err := hex.Decode(s[:], []byte(text)); err != nil || n != len(s) || time.Since(time.Unix(st.Ctim.Unix())) < settled {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now[stampOf(st)] = s
}

// Close writes what is new. Of two builds at once the later one's is kept: it is a memory, not a record. When it becomes too much, what this build did not ask for goes.
func (h *hashes) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.now) == 0 {
		return nil
	}
	keep := h.old
	if len(h.old)+len(h.now) > h.most {
		keep = h.used
	}
	maps.Copy(h.now, keep)
	data := make([]byte, 0, len(h.now)*72)
	for k, v := range h.now {
		data = append(append(data, k[:]...), v[:]...)
	}
	if err := disk.WriteFile(h.path, data, 0o600, disk.Volatile); err != nil {
		return fmt.Errorf("cannot remember the digests of files: %w", err)
	}
	return nil
}
