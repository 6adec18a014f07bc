package config

import "testing"

func TestShown(t *testing.T) {
	for word, want := range map[string]string{
		"www-data": "www-data", "ünder score": "ünder score", "a\nb": `"a\nb"`, "\x1b[2J": `"\x1b[2J"`, "\xff": "\xff", "": "",
	} {
		if got := Shown(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}
