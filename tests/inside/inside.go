// Package inside runs the tests of a package in namespaces of their own, as an ordinary user: the code under test works in a user namespace, and what it does to mounts and networks is nobody else's. Tests alone
// import it.
package inside

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/userns"
)

// mark is set for the test binary that is in the namespaces.
const mark = "SKIFF_TEST_INSIDE"

// Main is the TestMain of a package whose tests run in a user namespace where root is whoever runs them (root brings 65535 ids more), and in the further namespaces of flags (CLONE_NEWNET and the like). Prepare runs
// there before them; it may be nil.
func Main(m *testing.M, flags uintptr, prepare func() error) {
	again(m, prepare, func() error {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // go test ends it
		cmd.Env = append(os.Environ(), mark+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		size := 1
		if os.Getuid() == 0 {
			size = 65536
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | flags,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: size}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: size}},
			GidMappingsEnableSetgroups: size > 1,
			Pdeathsig:                  unix.SIGKILL,
		}
		return cmd.Run()
	})
}

// MainWithIDs is the TestMain of a package whose tests run where the engine does: in a user namespace with the subordinate ids of whoever runs them (run/userns). Without such a namespace they are skipped.
func MainWithIDs(m *testing.M, prepare func() error) {
	again(m, prepare, func() error {
		dir, err := os.MkdirTemp("", "skiff-test-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a directory of the tests
		self, err := os.Executable()
		if err != nil {
			return err
		}
		child, err := userns.Start(userns.Options{
			Path: self, Args: os.Args, Env: append(os.Environ(), mark+"=1"),
			Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, RunDir: dir,
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "SKIP: no user namespace for the tests:", err)
			return nil
		}
		code, err := child.Wait()
		if err == nil && code != 0 {
			err = status(code)
		}
		return err
	})
}

// status is how the tests inside have ended.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// again runs the tests when it is inside, and has enter run everything again there when it is not.
func again(m *testing.M, prepare, enter func() error) {
	if os.Getenv(mark) != "" {
		if prepare != nil {
			if err := prepare(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	err := enter()
	var exit *exec.ExitError
	var code status
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode()) // the tests have said why
	case errors.As(err, &code):
		os.Exit(int(code)) // likewise
	default:
		fmt.Fprintln(os.Stderr, "cannot run the tests in namespaces of their own:", err)
		os.Exit(1)
	}
}
