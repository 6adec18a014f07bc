package userns

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
)

// maxMembers is how many runtime directories are looked at: any living one will do.
const maxMembers = 64

// member is a living monitor as it announced itself in RunDir/<id>/pid.
type member struct {
	Pid    int    `json:"pid"`
	Userns uint64 `json:"userns"` // inode of its user namespace
	alive  string // the lock it holds
}

// members lists monitors that hold their lock. Whether the pid is theirs is namespace's to check.
func members(runDir string) []member {
	d, err := os.Open(runDir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(maxMembers)
	if err != nil {
		return nil
	}
	var found []member
	for _, name := range names {
		data, err := os.ReadFile(runDir + "/" + name + "/pid")
		if err != nil {
			continue // not a container's, or not announced yet
		}
		m := member{alive: runDir + "/" + name + "/alive"}
		if plain.Unmarshal(data, &m) != nil || m.Pid <= 0 {
			continue
		}
		if locked, err := disk.Lives(m.alive); err == nil && locked {
			found = append(found, m)
		}
	}
	return found
}

// namespace opens the member's user namespace. The lock is looked at once more afterwards: it was held before and after, so the pid was not reused between. But the next switch, or the next monitor of the same
// container, may have taken the lock of one that is ending, before it has said who it is: then the process that the file names is one that ends.
func (m member) namespace() (*os.File, error) {
	ns, err := namespaceOf(fmt.Sprint(m.Pid))
	if err != nil {
		return nil, err
	}
	locked, err := disk.Lives(m.alive)
	if err != nil || !locked || inode(ns) != m.Userns || ending(m.Pid) {
		ns.Close()
		return nil, fmt.Errorf("process %d is no member any more", m.Pid)
	}
	return ns, nil
}

// exiting is PF_EXITING (linux/sched.h): a process gets it before its files are closed, and so before it gives up its locks.
const exiting = 0x4

// ending says whether a process is about to be no more, or waits to be reaped: its flags are the seventh field behind its name (proc(5), stat).
func ending(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 7 {
		return true
	}
	flags, err := strconv.ParseUint(fields[6], 10, 32)
	return err != nil || flags&exiting != 0
}

func namespaceOf(pid string) (*os.File, error) {
	return os.Open("/proc/" + pid + "/ns/user")
}

func inode(f *os.File) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0
	}
	return st.Ino
}

// Own is the inode of the calling process's user namespace, for a monitor to announce.
func Own() (uint64, error) {
	ns, err := namespaceOf("self")
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return inode(ns), nil
}
