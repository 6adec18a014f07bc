package layer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside says, in the environment of the second execution of the tests, that the user namespace is there.
const inside = "SKIFF_TEST_INSIDE"

// TestMain runs the tests in a user and a mount namespace of their own, where all of the package's code belongs: root there is whoever runs the tests.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "cannot make the mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	size := 1
	if os.Getuid() == 0 {
		size = 65536
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: size}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: size}},
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "cannot make a user namespace for the tests:", err)
		os.Exit(1)
	}
}
