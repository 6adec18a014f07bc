package userns

import (
	"fmt"
	"os"
	"strings"
)

// Mapped is how many ids the calling process's user namespace maps from 0 up, as /proc/self/gid_map has them (user_namespaces(7)); 1 when that cannot be read.
func Mapped() uint32 {
	data, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return 1
	}
	next := uint32(0)
	for line := range strings.Lines(string(data)) {
		var inside, outside, count uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && inside == next {
			next += count
		}
	}
	return next
}
