package config

import (
	"strings"
	"testing"
)

func TestCheckHostname(t *testing.T) {
	for _, name := range []string{"", "web", "web-1.example.org", "a_b", strings.Repeat("x", 64)} {
		if err := CheckHostname(name); err != nil {
			t.Errorf("CheckHostname(%q): %v", name, err)
		}
	}
	for _, name := range []string{"a b", "a\n10.0.0.1 evil", "h\xc3\xa9", "a/b", strings.Repeat("x", 65)} {
		if err := CheckHostname(name); err == nil {
			t.Errorf("CheckHostname(%q) has no error", name)
		}
	}
}
