package fork

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Without a low limit nothing is looked at; with one, there is room or there is an error, and no child stays.
func TestSpare(t *testing.T) {
	if os.Getenv("FORK_TEST_FEW") == "" {
		if err := Spare(most, "a test"); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=TestSpare")
		cmd.Env = append(os.Environ(), "FORK_TEST_FEW=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = low
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		t.Fatal(err)
	}
	if err := Spare(most, "a test"); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		return // whom the kernel refuses nothing
	}
	limit.Cur = 1
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		t.Fatal(err)
	}
	err := Spare(2, "a test")
	var want *ProcessesError
	if !errors.As(err, &want) || want.What != "a test" {
		t.Fatalf("got %v", err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WALL|unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Fatalf("a child stays: %d, %v", pid, err)
	}
}
