package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Resolver is what a resolv.conf(5) of a container's own differs in from the host's. What is not given is the host's.
type Resolver struct {
	Servers, Search, Options []string
	// Names says that the servers know containers by names of one word: those are asked for as they are before the search domains, which the world has (ndots:0, as Docker's).
	Names bool
}

// ResolvConf is the host's resolv.conf, data, with what the container has in its place.
func (r Resolver) ResolvConf(data []byte) []byte {
	var out strings.Builder
	options := slices.Clone(r.Options)
	for line := range strings.Lines(string(data)) {
		words := append(strings.Fields(line), "")
		switch word := words[0]; {
		case word == "options":
			if len(r.Options) == 0 {
				options = append(options, words[1:len(words)-1]...)
			}
		case word == "nameserver" && len(r.Servers) > 0 || (word == "search" || word == "domain") && len(r.Search) > 0:
		default:
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	for _, s := range r.Servers {
		out.WriteString("nameserver " + s + "\n")
	}
	if len(r.Search) > 0 && r.Search[0] != "." {
		out.WriteString("search " + strings.Join(r.Search, " ") + "\n")
	}
	if r.Names && !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		options = append(options, "ndots:0")
	}
	if len(options) > 0 {
		out.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return []byte(out.String())
}

// CheckDNS says whether --dns names a name server.
func CheckDNS(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%q is no IP address; a name server is given by its address", s)
	}
	return nil
}

// CheckSearch says whether --dns-search names a domain; "." is for none at all.
func CheckSearch(s string) error {
	if s == "." {
		return nil
	}
	ok := s != "" && len(s) <= 253
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		ok = ok && label != "" && len(label) <= 63 && !strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
	}
	if !ok {
		return fmt.Errorf("%q is no domain; write such as example.org, or . for none", s)
	}
	return nil
}

// CheckResolverOption says whether --dns-option is one word, as resolv.conf(5) has them.
func CheckResolverOption(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%q is no option of resolv.conf(5); write such as ndots:2", s)
	}
	return nil
}
