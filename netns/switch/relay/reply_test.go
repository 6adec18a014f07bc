package relay

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// A client is answered from the address that it sent to, be it now one of the host's and then another.
func TestClientsAreAnsweredFromWhereTheyAsked(t *testing.T) {
	for _, c := range []struct{ name, network, at string }{
		{"all addresses", "udp", ""},
		{"all of IPv4", "udp4", "0.0.0.0"},
		{"one address", "udp4", "127.0.0.7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			listener, err := net.ListenUDP(c.network, &net.UDPAddr{IP: net.ParseIP(c.at)})
			if err != nil {
				t.Fatal(err)
			}
			inside, server := pair(t)
			go func() {
				b := make([]byte, 10)
				for {
					n, err := server.Read(b)
					if err != nil {
						return
					}
					_, _ = server.Write(b[:n]) // a client that does not get it fails the test
				}
			}()
			done := make(chan struct{})
			go func() {
				defer close(done)
				Clients(listener, Idle{time.Minute, time.Minute}, func(netip.AddrPort) (net.Conn, error) { return inside, nil }, func(net.Conn) {})
			}()
			defer func() { _ = listener.Close(); <-done }() // Clients ends with it
			client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close() //nolint:errcheck // a socket
			asked := []string{"127.0.0.7", "127.0.0.8", "127.0.0.1", "127.0.0.7"}
			if c.at != "" && c.at != "0.0.0.0" {
				asked = []string{c.at}
			}
			for _, host := range asked {
				to := netip.AddrPortFrom(netip.MustParseAddr(host), listener.LocalAddr().(*net.UDPAddr).AddrPort().Port())
				if _, err := client.WriteToUDPAddrPort([]byte(host), to); err != nil {
					t.Fatal(err)
				}
				if err := client.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 10)
				n, from, err := client.ReadFromUDPAddrPort(b)
				if err != nil || string(b[:n]) != host || from != to {
					t.Errorf("asked at %s: %s answers %q (%v)", to, from, b[:n], err)
				}
			}
		})
	}
}
