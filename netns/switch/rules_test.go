package netswitch

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who connects to the gateway itself where nobody listens is refused at once, and reaches nothing that does listen there but the name server.
func TestGatewayRefuses(t *testing.T) {
	eachWay(t, func(t *testing.T, w *site) {
		var inner net.Listener // the switch's, on all of its addresses
		if err := w.hub.space.do(func() (err error) { inner, err = net.Listen("tcp", ":81"); return err }); err != nil {
			t.Fatal(err)
		}
		defer inner.Close() //nolint:errcheck // a socket
		for _, at := range []string{"10.77.0.1:80", "[fd77::1]:80", "10.77.0.1:81", "[fd77::1]:81"} {
			w.inside.Do(t, func() error {
				c, err := net.DialTimeout("tcp", at, 10*time.Second)
				if err == nil {
					_ = c.Close() // it must not be
				}
				if !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: %v", at, err)
				}
				return nil
			})
		}
	})
}
