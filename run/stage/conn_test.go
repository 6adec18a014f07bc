package stage

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReceive(t *testing.T) {
	tests := map[string]struct {
		data []byte
		ok   bool
	}{
		"request":   {[]byte(`{"op":"ping"}`), true},
		"malformed": {[]byte(`{"op":`), false},
		"wrong":     {[]byte(`{"op":7}`), false},
		"oversized": {make([]byte, maxMessage+1), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, theirs, err := Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			defer theirs.Close()
			if err := unix.Sendmsg(fdOf(theirs), tt.data, nil, nil, 0); err != nil {
				t.Fatal(err)
			}
			var r Request
			if _, err := c.Receive(&r); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("closed", func(t *testing.T) {
		c, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		theirs.Close()
		if _, err := c.Receive(new(Request)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"exec","exec":{"args":["true"]},"timeout":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r, again Request
		if json.Unmarshal(data, &r) != nil {
			return
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if text2, err := json.Marshal(again); err != nil || !reflect.DeepEqual(text, text2) {
			t.Errorf("%s became %s, %v", text, text2, err)
		}
	})
}

// A runtime directory may have a longer path than the address of a socket.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ctl.sock")
	for range 2 { // the second finds what a killed one has left
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Dial(filepath.Join(dir, "gone", "ctl.sock")); err == nil {
		t.Fatal("connected to nobody")
	}
}

// Whatever comes over a connection, Receive gives a message or an error, and what it gives can be sent again and is the same.
func FuzzReceive(f *testing.F) {
	for _, s := range []string{`{"op":"exec","exec":{"args":["a"],"env":["A=b"]},"rows":24}`, `{"kind":"failed","error":"x","code":125}`, "", "{", `{"op":7}`, `{"op":"\ud800"}`, `[[[[`} {
		f.Add([]byte(s), uint8(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, files uint8) {
		c, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer theirs.Close()
		var oob []byte
		if n := int(files % 8); n > 0 { // more than are taken, too
			fds := make([]int, n)
			for i := range fds {
				fds[i] = int(theirs.Fd())
			}
			oob = unix.UnixRights(fds...)
		}
		if err := unix.Sendmsg(int(theirs.Fd()), data, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT); err != nil {
			return // larger than a socket takes
		}
		var r, again Request
		got, err := c.Receive(&r)
		for _, file := range got {
			if closeErr := file.Close(); closeErr != nil {
				t.Error(closeErr)
			}
		}
		if len(got) > maxFiles {
			t.Fatalf("%d descriptors", len(got))
		}
		if err != nil {
			return
		}
		if err := c.Send(r); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		there := &Conn{theirs}
		if _, err := there.Receive(&again); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%q: %+v became %+v, %v", data, r, again, err)
		}
	})
}
