package userns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/storage/disk"
)

// A process that has ended is no member, although it is not reaped yet and its successor holds the lock: whoever joined through it would be alone in a namespace that the others have left.
func TestEndedMember(t *testing.T) {
	run := t.TempDir()
	dir := filepath.Join(run, "switch")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := disk.TryLock(filepath.Join(dir, "alive"), disk.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFile(filepath.Join(dir, "pid"), fmt.Appendf(nil, `{"pid":%d,"userns":%d}`, cmd.Process.Pid, own), 0o600, disk.Volatile); err != nil {
		t.Fatal(err)
	}
	all := members(run)
	if len(all) != 1 {
		t.Fatal(all)
	}
	ns, err := all[0].namespace()
	if err != nil {
		t.Fatalf("a living one: %v", err)
	}
	ns.Close()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !ending(cmd.Process.Pid) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/ns", cmd.Process.Pid)); err != nil {
		t.Fatal(err) // it is there for as long as nobody waits for it
	}
	if ns, err := all[0].namespace(); err == nil {
		ns.Close()
		t.Error("one that has ended is joined")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
