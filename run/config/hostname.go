package config

import (
	"fmt"
	"slices"
	"strings"
)

// maxHostname is how long the kernel lets a host's or a domain's name be.
const maxHostname = 64

// CheckHostname says what is wrong with a host's or a domain's name. It is written into /etc/hosts and told to the name server, so it must be one word there.
func CheckHostname(name string) error {
	if len(name) > maxHostname {
		return fmt.Errorf("invalid name %q: it has more than %d characters", name, maxHostname)
	}
	return checkLetters(name)
}

func checkLetters(name string) error {
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '-' && c != '.' && c != '_' {
			return fmt.Errorf("invalid name %q: it takes a-z A-Z 0-9 . _ -", name)
		}
	}
	return nil
}

// maxAlias is how long a name of DNS may be.
const maxAlias = 253

// CheckNames says what is wrong with the names that a container is to have on a network, or calls others by there.
func (p *Place) CheckNames() error {
	if len(p.Aliases) > 0 && p.Network == "bridge" {
		return fmt.Errorf("network bridge has no names, so that nobody would find %q: use a network of your own (`skiff network create`)", p.Aliases[0])
	}
	names := slices.Clone(p.Aliases)
	for _, l := range p.Links {
		if _, alias, ok := strings.Cut(l, ":"); ok {
			names = append(names, alias)
		}
	}
	for _, name := range names {
		if name == "" || len(name) > maxAlias {
			return fmt.Errorf("invalid name %q: it has from 1 to %d characters", name, maxAlias)
		}
		if err := checkLetters(name); err != nil {
			return err
		}
	}
	return nil
}
