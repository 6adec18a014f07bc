package netswitch

// Shortcuts of the relay, for containers that connect to one target again and again.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/switch/relay"
)

// shortcuts is how many shortcuts there are for addresses like this one.
func (w *site) shortcuts(t *testing.T, like netip.Addr) (n int) {
	t.Helper()
	err := w.hub.space.filter(func(c *nftables.Conn) error {
		elements, err := c.GetSetElements(shortcuts(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}, like))
		n = len(elements)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// echo serves what it is sent, and says hello first.
func echo(t *testing.T, at string) (target netip.AddrPort, l net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // mostly closed already
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(c, "hello ") // the client sees what is missing
				_, _ = io.Copy(c, c)               // likewise
				_ = c.Close()                      // likewise
			}()
		}
	}()
	gateway := relay.Gateway4
	if strings.HasPrefix(at, "[") {
		gateway = relay.Gateway6
	}
	return netip.AddrPortFrom(gateway, l.Addr().(*net.TCPAddr).AddrPort().Port()), l
}

// once makes a connection from the thread that it runs on and checks what it carries.
func once(at netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", at.String(), 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // a socket
	_, err = io.WriteString(c, "you")
	err = errors.Join(err, c.SetDeadline(time.Now().Add(20*time.Second)), c.(*net.TCPConn).CloseWrite())
	got, readErr := io.ReadAll(c)
	if err = errors.Join(err, readErr); err != nil {
		return err
	}
	if string(got) != "hello you" {
		return fmt.Errorf("the container reads %q", got)
	}
	return nil
}

// press connects until there is a shortcut.
func (w *site) press(t *testing.T, at netip.AddrPort) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); w.shortcuts(t, at.Addr()) == 0; {
		if time.Now().After(until) {
			t.Fatal("there is no shortcut")
		}
		w.inside.Do(t, func() (err error) {
			for range 20 {
				err = errors.Join(err, once(at))
			}
			return err
		})
	}
}

func (w *site) untilNone(t *testing.T, like netip.Addr) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); w.shortcuts(t, like) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the shortcut stays")
		}
	}
}

// Connections by a shortcut are like others, and it goes when there are no more.
func TestShortcut(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(at, func(t *testing.T) {
			w := begin(t, "relay")
			target, _ := echo(t, at)
			before := descriptors(t)
			w.inside.Do(t, func() error { return once(target) })
			if n := w.shortcuts(t, target.Addr()); n != 0 {
				t.Errorf("there are %d shortcuts after one connection", n)
			}
			w.press(t, target)
			w.inside.Do(t, func() error {
				var all error
				for range 500 {
					all = errors.Join(all, once(target))
				}
				return all
			})
			w.untilNone(t, target.Addr())
			for until := time.Now().Add(10 * time.Second); descriptors(t) > before; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(until) {
					t.Fatalf("%d descriptors are open, before there were %d", descriptors(t), before)
				}
			}
		})
	}
}

// A target that has gone is refused, if not to those whose handshakes were finished before that was known.
func TestShortcutEndsWithItsTarget(t *testing.T) {
	w := begin(t, "relay")
	target, l := echo(t, "127.0.0.1:0")
	w.press(t, target)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.inside.Do(t, func() error {
		for until := time.Now().Add(10 * time.Second); ; {
			err := once(target)
			switch {
			case err == nil:
				return errors.New("somebody answers who has gone")
			case errors.Is(err, unix.ECONNREFUSED):
				return nil
			case !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE):
				return err
			case time.Now().After(until):
				return fmt.Errorf("it is not refused, but %w", err)
			}
		}
	})
	w.untilNone(t, target.Addr())
}

// A shortcut is for the container that made it, to where it was made.
func TestShortcutIsNobodyElses(t *testing.T) {
	w := begin(t, "relay")
	other := attach(t, w.hub, 3, false)
	target, _ := echo(t, "127.0.0.1:0")
	w.press(t, target)
	for range 3 {
		w.inside.Do(t, func() error { return once(target) })
		other.inside.Do(t, func() error {
			c, err := net.DialTimeout("tcp", target.String(), 100*time.Millisecond)
			if err == nil {
				return errors.Join(errors.New("the host's loopback is reached by who was not given it"), c.Close())
			}
			return nil
		})
	}
	// The next container with the address has shortcuts of its own, also where the one before had none.
	second, _ := echo(t, "127.0.0.1:0")
	w.inside.Do(t, func() error { return once(second) })
	w.hub.way.Forget(w.four)
	w.untilNone(t, target.Addr())
	w.press(t, second)
	w.inside.Do(t, func() error { return once(second) })
}
