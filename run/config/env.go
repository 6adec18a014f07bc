package config

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile is the largest env, label or profile file that is read, in bytes.
const maxFile = 4 << 20

// ParseEnv reads one -e: NAME=VALUE, or NAME alone, whose value is the caller's; set is false when the caller has none.
func ParseEnv(s string, lookup func(string) (string, bool)) (entry string, set bool, err error) {
	name, _, has := strings.Cut(s, "=")
	if name == "" || strings.ContainsAny(s, "\x00") {
		return "", false, fmt.Errorf("invalid environment variable %q: write NAME=VALUE", s)
	}
	if has {
		return s, true, nil
	}
	value, ok := lookup(name)
	return name + "=" + value, ok, nil
}

// ParseEnvFile reads lines of NAME=VALUE or NAME; empty ones and those that begin with # are passed over.
func ParseEnvFile(path string, lookup func(string) (string, bool)) ([]string, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	var env []string
	s := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	s.Buffer(nil, maxFile)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimLeft(s.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		if strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("invalid env file %s: line %d: the name %q has white space", path, n, name)
		}
		entry, set, err := ParseEnv(line, lookup)
		if err != nil {
			return nil, fmt.Errorf("invalid env file %s: line %d: %w", path, n, err)
		}
		if set {
			env = append(env, entry)
		}
	}
	return env, s.Err()
}

// ParseLabelFile reads lines of NAME=VALUE.
func ParseLabelFile(path string) (map[string]string, error) {
	lines, err := ParseEnvFile(path, func(string) (string, bool) { return "", true })
	if err != nil {
		return nil, err
	}
	labels := make(map[string]string)
	for _, l := range lines {
		k, v, _ := strings.Cut(l, "=")
		labels[k] = v
	}
	return labels, nil
}

// ParseLabel reads NAME[=VALUE].
func ParseLabel(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", fmt.Errorf("invalid label %q: write NAME=VALUE", s)
	}
	return key, value, nil
}

// ReadFile reads a file that the user named, of at most 4 MiB: a regular one, a pipe such as <(command) of a shell, or a character device such as /dev/null.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() && st.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) == 0 {
		return nil, fmt.Errorf("%s is neither a regular file nor a pipe", path)
	}
	if st.Mode()&os.ModeNamedPipe != 0 {
		// Its writer is there already.
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than 4 MiB", path)
	}
	return data, err
}
