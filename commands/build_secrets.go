//go:build !front

package commands

// This file reads --secret and --ssh.

import (
	"fmt"
	"os"
	"strings"
)

// maxSecret is the size of the largest secret, in bytes, as in Docker.
const maxSecret = 500 << 10

// buildSecrets reads --secret id=NAME,src=FILE and id=NAME,env=NAME; with neither, the variable of that name or else the file.
func buildSecrets(specs []string) (map[string]func() ([]byte, error), error) {
	all := map[string]func() ([]byte, error){}
	for _, s := range specs {
		values := map[string]string{}
		for _, field := range strings.Split(s, ",") {
			key, value, ok := strings.Cut(field, "=")
			if !ok {
				return nil, fmt.Errorf("cannot use --secret %s: %q is not KEY=VALUE", s, field)
			}
			switch key {
			case "id", "env", "type":
				values[key] = value
			case "src", "source":
				values["src"] = value
			default:
				return nil, fmt.Errorf("cannot use --secret %s: %q is not known; it has id, src, env and type", s, key)
			}
		}
		id, file, name := values["id"], values["src"], values["env"]
		if id == "" {
			return nil, fmt.Errorf("cannot use --secret %s: it has no id", s)
		}
		if values["type"] == "env" && name == "" {
			name, file = file, ""
			if name == "" {
				name = id
			}
		}
		if file == "" && name == "" {
			if _, ok := os.LookupEnv(id); ok {
				name = id
			} else {
				file = id
			}
		}
		if name != "" {
			value, ok := os.LookupEnv(name)
			if !ok {
				return nil, fmt.Errorf("cannot use --secret %s: there is no variable %s", s, name)
			}
			all[id] = func() ([]byte, error) { return []byte(value), nil } //nolint:unparam // one of two kinds of secret: a file can fail
			continue
		}
		st, err := os.Stat(file)
		if err != nil {
			return nil, fmt.Errorf("cannot use --secret %s: %w", s, err)
		}
		if !st.Mode().IsRegular() || st.Size() > maxSecret {
			return nil, fmt.Errorf("cannot use --secret %s: %s is no file of at most %d bytes", s, file, maxSecret)
		}
		all[id] = func() ([]byte, error) { return os.ReadFile(file) }
	}
	return all, nil
}

// buildAgents reads --ssh default and --ssh ID=SOCKET.
func buildAgents(specs []string) (map[string]string, error) {
	all := map[string]string{}
	for _, s := range specs {
		id, path, _ := strings.Cut(s, "=")
		if path == "" {
			path = os.Getenv("SSH_AUTH_SOCK")
		}
		if path == "" {
			return nil, fmt.Errorf("cannot use --ssh %s: SSH_AUTH_SOCK is not set", s)
		}
		st, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("cannot use --ssh %s: %w", s, err)
		}
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("cannot use --ssh %s: %s is not an agent's socket; keys are given to an agent first (ssh-add)", s, path)
		}
		all[id] = path
	}
	return all, nil
}
