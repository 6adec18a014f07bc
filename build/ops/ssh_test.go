package ops

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is said to the socket of a mount reaches the agent, and its answer comes back, each with its end; without an agent a connection ends.
func TestServeAgent(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "a") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	agent, err := net.Listen("unix", filepath.Join(tmp, "real"))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close() //nolint:errcheck // a test's
	go func() {
		for {
			c, err := agent.Accept()
			if err != nil {
				return
			}
			text, _ := io.ReadAll(c)
			_, _ = c.Write([]byte(strings.ToUpper(string(text)))) // one that is lost fails the test
			_ = c.Close()
		}
	}()
	dir, err := os.Open(tmp)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l, err := serveAgent(dir, filepath.Join(tmp, "real"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() string {
		t.Helper()
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: filepath.Join(tmp, "agent")})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()                     //nolint:errcheck // only read from
		_, _ = c.Write([]byte("who is it")) // the other side may have gone
		_ = c.CloseWrite()
		answer, _ := io.ReadAll(c)
		return string(answer)
	}
	for range 3 {
		if got := ask(); got != "WHO IS IT" {
			t.Errorf("got %q", got)
		}
	}
	_ = agent.Close()
	if got := ask(); got != "" {
		t.Errorf("a dead agent answers %q", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
