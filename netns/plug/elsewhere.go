package plug

import (
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
)

// elsewherePatience is longer than a switch outlives its last container.
const elsewherePatience = 8 * time.Second

// awaitOther waits until no switch of another user namespace runs: it has no rights over our containers' namespaces. There are several where each command is started in a user namespace of its
// own, by unshare(1) or bubblewrap, with the same runtime directory. It asks the switch nothing, which would keep it alive.
func awaitOther(dir string) error {
	for began := time.Now(); elsewhere(dir); time.Sleep(20 * time.Millisecond) { //nolint:forbidigo // the end of another process
		if time.Since(began) > elsewherePatience {
			return &Refusal{
				Text: "cannot use the network switch that runs: it belongs to another user namespace, whose containers need it",
				Hint: "give what runs in another user namespace (unshare, bubblewrap, an outer container) an XDG_RUNTIME_DIR of its own, or use --network none or --network host",
			}
		}
	}
	return nil
}

// elsewhere says whether the switch that has announced itself in dir lives, and in another user namespace than ours.
func elsewhere(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, Pid))
	if err != nil {
		return false // there is none, or it is about to begin
	}
	var its struct {
		Userns uint64 `json:"userns"`
	}
	ours, err := userns.Own()
	if err != nil || plain.Unmarshal(data, &its) != nil || its.Userns == ours {
		return false
	}
	alive, err := disk.Locked(filepath.Join(dir, Alive))
	return err == nil && alive
}
