package commands

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "ctrl-p,ctrl-q": "\x10\x11", "a": "a", "ctrl-@,ctrl-[,ctrl-_": "\x00\x1b\x1f", "ctrl-P": "\x10",
	} {
		if got, err := parseDetachKeys(in); err != nil || string(got) != want {
			t.Errorf("%q is %q (%v), want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"ctrl-", "ctrl-1", "ab", "a,,b", ","} {
		if got, err := parseDetachKeys(in); err == nil {
			t.Errorf("%q was read as %q", in, got)
		}
	}
}

func TestDetachReader(t *testing.T) {
	tests := []struct {
		name, keys, in, out string
		detached            bool
	}{
		{"none", "\x10\x11", "hello", "hello", false},
		{"keys", "\x10\x11", "ab\x10\x11cd", "ab", true},
		{"prefix is ordinary", "\x10\x11", "a\x10b", "a\x10b", false},
		{"prefix twice", "\x10\x11", "\x10\x10\x11", "\x10", true},
		{"prefix at the end", "\x10\x11", "a\x10", "a\x10", false},
		{"no keys", "", "\x10\x11", "\x10\x11", false},
	}
	for _, tt := range tests {
		for kind, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "early EOF": iotest.DataErrReader,
		} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				var out strings.Builder
				_, err := io.Copy(&out, &detachReader{r: wrap(strings.NewReader(tt.in)), keys: []byte(tt.keys)})
				if out.String() != tt.out || errors.Is(err, errDetach) != tt.detached {
					t.Errorf("%q %v", out.String(), err)
				}
			})
		}
	}
}

func FuzzParseDetachKeys(f *testing.F) {
	f.Add("ctrl-p,ctrl-q")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseDetachKeys(s) })
}
