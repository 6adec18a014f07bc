package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// elsewhere are directories with runtimes that an ordinary user's PATH may lack.
var elsewhere = []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec/crun", "/usr/lib/crun"}

// For is the runtime of a name: "" and skiff are the in-house one, another one is that of a program in PATH, and one with a slash that of a file.
func For(name string) (Runtime, error) {
	if name == "" || name == "skiff" {
		return New(), nil
	}
	path, err := Find(name)
	if err != nil {
		return nil, err
	}
	return External{Path: path}, nil
}

// Find is the absolute path of an external runtime.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	if !strings.Contains(name, "/") {
		for _, dir := range elsewhere {
			path := filepath.Join(dir, name)
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return path, nil
			}
		}
		return "", fmt.Errorf("cannot use runtime %q: there is no such program in $PATH; install it, or leave --runtime out for skiff's own", name)
	}
	return "", fmt.Errorf("cannot use runtime %q: %w", name, bare(err))
}

// bare is an error without the name that the caller repeats.
func bare(err error) error {
	if e, ok := err.(*exec.Error); ok { //nolint:errorlint // LookPath wraps nothing around it
		return e.Err
	}
	return err
}
