package processes

import "testing"

func TestParseStat(t *testing.T) {
	rest := " S 1 7 7 0 -1 4194560 100 0 0 0 3 4 5 6 20 0 1 0 100 0 0"
	for name, c := range map[string]struct {
		text string
		want Process
		ok   bool
	}{
		"plain":                     {"12 (sh)" + rest, Process{12, 1, 'S', 18}, true},
		"a name like the next ones": {"12 (a) R 9 (b c)" + rest, Process{12, 1, 'S', 18}, true},
		"cut off":                   {"12 (sh) S 1 7", Process{}, false},
		"no name":                   {"12", Process{}, false},
		"empty":                     {"", Process{}, false},
		"no numbers":                {"12 (sh) S x 7 7 0 -1 4194560 100 0 0 0 3 4 5 6 20", Process{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := parseStat(12, c.text); got != c.want || ok != c.ok {
				t.Errorf("got %v, %v, want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}
