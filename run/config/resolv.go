package config

import "strings"

// ResolvConf is a resolv.conf(5), mostly the host's, with other name servers, search domains and options where there are some.
func ResolvConf(data []byte, servers, search, options []string) []byte {
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "nameserver" && len(servers) > 0 || (word == "search" || word == "domain") && len(search) > 0 || word == "options" && len(options) > 0 {
			continue
		}
		out.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	for _, s := range servers {
		out.WriteString("nameserver " + s + "\n")
	}
	if len(search) > 0 && search[0] != "." {
		out.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		out.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return []byte(out.String())
}
