package bundle

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// makeGroups makes the container's control groups.
func makeGroups(id string, s *specs.Spec) ([]string, error) {
	_ = id
	if s.Linux.Resources != nil {
		return nil, checkResources(s.Linux.Resources)
	}
	return nil, nil
}

// checkResources refuses limits.
func checkResources(r *specs.LinuxResources) error {
	return first([]refused{
		{"linux.resources.memory", r.Memory != nil && *r.Memory != specs.LinuxMemory{}, "limits are not supported"},
		{"linux.resources.pids", r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit > 0, "limits are not supported"},
	})
}

// deleteGroups removes control groups.
func deleteGroups(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot remove the control group %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
