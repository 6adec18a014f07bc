package storage

import (
	"testing"

	"github.com/skiff-containers/skiff/tests/inside"
)

// TestMain runs the tests where the engine's code runs.
func TestMain(m *testing.M) {
	if !Reexecuted() {
		inside.MainWithIDs(m, Prepare)
	}
}
