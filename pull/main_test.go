package pull

import (
	"testing"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/tests/inside"
)

// TestMain runs the tests where the engine's code runs.
func TestMain(m *testing.M) {
	if !storage.Reexecuted() {
		inside.MainWithIDs(m, storage.Prepare)
	}
}
