package config

import "fmt"

// maxHostname is how long the kernel lets a host's or a domain's name be.
const maxHostname = 64

// CheckHostname says what is wrong with a host's or a domain's name. It is written into /etc/hosts and told to the name server, so it must be one word there.
func CheckHostname(name string) error {
	if len(name) > maxHostname {
		return fmt.Errorf("invalid name %q: it has more than %d characters", name, maxHostname)
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("invalid name %q: it takes a-z A-Z 0-9 . _ -", name)
		}
	}
	return nil
}
