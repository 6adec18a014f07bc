package config

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// ParseBlockLimit reads the value of one of the flags that limit a disk: /dev/NAME:VALUE. ok is false for a value of 0, which is no limit.
func ParseBlockLimit(flag, s string) (b BlockLimit, ok bool, err error) {
	at := strings.LastIndexByte(s, ':')
	example := "a number of operations per second, such as /dev/sda:1000"
	switch flag {
	case ReadBps, WriteBps:
		example = "bytes per second with k, m or g, such as /dev/sda:10m"
	case DeviceWeight:
		example = "a weight of 10 to 1000, such as /dev/sda:300"
	}
	invalid := fmt.Errorf("invalid limit %q: write the disk's device and %s", s, example)
	if at < 0 || !path.IsAbs(s[:at]) {
		return b, false, invalid
	}
	b = BlockLimit{Flag: flag, Path: path.Clean(s[:at])}
	if flag == ReadBps || flag == WriteBps {
		var n int64
		if n, err = ParseSize(s[at+1:]); err == nil && n < 0 {
			err = errors.New("negative")
		}
		b.Value = uint64(max(n, 0))
	} else {
		b.Value, err = strconv.ParseUint(s[at+1:], 10, 63)
	}
	if err != nil || flag == DeviceWeight && b.Value != 0 && (b.Value < 10 || b.Value > 1000) {
		return b, false, invalid
	}
	return b, b.Value != 0, nil
}
