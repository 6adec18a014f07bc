package pull

import (
	"fmt"
	"os"
	"testing"

	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage"
)

// insideMark is set for the test binary that runs inside a user namespace, where the engine's code runs.
const insideMark = "SKIFF_TEST_INSIDE"

// TestMain runs the tests again inside a user namespace of their own.
func TestMain(m *testing.M) {
	if storage.Reexecuted() {
		return
	}
	if os.Getenv(insideMark) != "" {
		if err := storage.Prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	os.Exit(enter())
}

func enter() int {
	dir, err := os.MkdirTemp("", "skiff-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a directory of the tests
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	child, err := userns.Start(userns.Options{
		Path: self, Args: os.Args, Env: append(os.Environ(), insideMark+"=1"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, RunDir: dir,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "SKIP: no user namespace for the tests:", err)
		return 0
	}
	code, err := child.Wait()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
