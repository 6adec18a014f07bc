package layer

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/tests/inside"
)

// TestMain runs the tests in a user and a mount namespace of their own, where all of the package's code belongs.
func TestMain(m *testing.M) {
	inside.Main(m, unix.CLONE_NEWNS, func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("cannot make the mounts private: %w", err)
		}
		return nil
	})
}
