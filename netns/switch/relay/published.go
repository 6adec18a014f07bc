package relay

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
)

// Clients passes datagrams between the clients of a listener and whatever begin connects each of them with, until the listener is closed. ended is called for each connection that was
// begun, before it is closed: after it was idle for long, or because somebody closed it.
func Clients(listener *net.UDPConn, idle Idle, begin func(client netip.AddrPort) (net.Conn, error), ended func(net.Conn)) {
	l := newBatch(listener, nil)
	l.reportLocal()
	var mu sync.Mutex
	flows := map[netip.AddrPort]*visit{}
	for {
		m, err := l.receive()
		if err != nil {
			break
		}
		for list := m.list(); len(list) > 0; {
			address := list[0].Addr.(*net.UDPAddr)
			client := address.AddrPort()
			n := 1
			for n < len(list) && list[n].Addr.(*net.UDPAddr).AddrPort() == client {
				n++
			}
			mu.Lock()
			f := flows[client]
			mu.Unlock()
			if f == nil {
				if c, err := begin(client); err == nil {
					f = &visit{batch: newBatch(c, nil), traffic: newTraffic(idle), back: addressed{batch: l, client: address}}
					mu.Lock()
					flows[client] = f
					mu.Unlock()
					go func() {
						carry(&f.back, f.batch, f.traffic, true)
						mu.Lock()
						delete(flows, client)
						mu.Unlock()
						ended(c)
						_ = c.Close() // it is over
					}()
				}
			}
			if f != nil {
				f.note(false)
				f.sentTo(received(&list[n-1]))
				_ = f.send(list[:n]) // like any datagrams that are lost
			}
			list = list[n:]
		}
		m.lend()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, f := range flows {
		_ = f.conn.Close() // its goroutine ends
	}
}

// visit is what a client has to do with us.
type visit struct {
	*batch
	*traffic
	back addressed
	seen []byte // what the kernel said about the client's last datagram
}

// sentTo notes what the kernel said about a datagram of the client's: answers come from the address that it was sent to.
func (v *visit) sentTo(control []byte) {
	if bytes.Equal(v.seen, control) {
		return
	}
	v.seen = bytes.Clone(control)
	reply := replyControl(control)
	v.back.control.Store(&reply)
}

// addressed is a listener's socket as the way to one client.
type addressed struct {
	*batch
	client  *net.UDPAddr
	control atomic.Pointer[[]byte] // that of answers (replyControl)
}

func (a *addressed) send(list []ipv4.Message) error {
	var control []byte
	if c := a.control.Load(); c != nil {
		control = *c
	}
	return a.sendTo(list, a.client, control)
}
