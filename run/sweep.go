package run

import (
	"errors"
	"fmt"
	"os"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
	"github.com/skiff-containers/skiff/storage/volume"
)

// SweepMain is the life of a process whose argv[0] is stage.Sweep: args are the data directory, the runtime directory, and names of volumes to remove.
// It deletes what was retired, inside the user namespace, and returns the process's exit status.
func SweepMain(args []string) int {
	if len(args) < 2 {
		_, _ = os.Stderr.WriteString("skiff-sweep is started by skiff itself\n")
		return 125
	}
	if err := sweep(args[0], args[1], args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "skiff:", err)
		return 1
	}
	return 0
}

// sweep deletes, inside the user namespace, what was retired, and these volumes.
func sweep(data, runDir string, volumes []string) error {
	store := &record.Store{Data: data, Run: runDir}
	set := volume.Open(data)
	removeVolume := func(name string) error {
		if err := set.Remove(name); err != nil && !errors.Is(err, volume.ErrNotFound) {
			return err
		}
		return nil
	}
	errs := []error{store.Sweep(layer.Delete, removeVolume), store.SweepReleased(), set.Sweep()}
	orphans, err := store.Orphans()
	errs = append(errs, err)
	for _, id := range orphans {
		errs = append(errs, endGroups(store, id), netns.Open(data, runDir).Forget(id), store.Release(id))
	}
	for _, name := range volumes {
		errs = append(errs, removeVolume(name))
	}
	return errors.Join(errs...)
}
