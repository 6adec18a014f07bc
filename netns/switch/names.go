package netswitch

// Name servers: on each bridge's gateway one that knows the containers of its network, and asks the host's resolvers everything else.

import (
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/miekg/dns"

	"github.com/skiff-containers/skiff/netns"
)

// names is one network's name server.
type names struct {
	view    *netns.View
	network netns.Network
	servers []*dns.Server
	space   *os.File      // the switch's network namespace
	file    string        // the host's resolv.conf
	busy    chan struct{} // has room for questions that are being forwarded
	mu      sync.Mutex
	asked   map[netip.Addr]ownResolvers            // by client (--dns)
	told    map[netip.Addr]map[string][]netip.Addr // by client (plug.Place)
}

const (
	ttl            = 0 // containers come and go
	maxUDPResponse = 4096
)

func newNames(view *netns.View, n netns.Network) *names {
	return &names{view: view, network: n, file: "/etc/resolv.conf", busy: make(chan struct{}, maxForwarded), asked: map[netip.Addr]ownResolvers{}, told: map[netip.Addr]map[string][]netip.Addr{}}
}

// serveNames starts the name servers of a network, on all of its gateways.
func (h *hub) serveNames(n netns.Network) (*names, error) {
	s := newNames(h.view, n)
	s.space = h.space.file
	for _, sub := range n.Subnets {
		at := netip.AddrPortFrom(sub.Gateway, 53).String()
		var udp net.PacketConn
		var tcp net.Listener
		err := h.space.do(func() (err error) {
			if udp, err = net.ListenPacket("udp", at); err != nil { //nolint:noctx // binding does not block
				return err
			}
			tcp, err = net.Listen("tcp", at) //nolint:noctx // likewise
			return err
		})
		if err != nil {
			if udp != nil {
				_ = udp.Close() // nothing was asked yet
			}
			s.close()
			return nil, err
		}
		for _, server := range []*dns.Server{{PacketConn: udp, Handler: s}, {Listener: tcp, Handler: s}} {
			s.servers = append(s.servers, server)
			go func() { _ = server.ActivateAndServe() }() // until it is shut down
		}
	}
	return s, nil
}

func (s *names) close() {
	if s == nil {
		return
	}
	for _, server := range s.servers {
		_ = server.Shutdown() // one that has not begun yet is closed below
		if server.PacketConn != nil {
			_ = server.PacketConn.Close() // likewise
		}
		if server.Listener != nil {
			_ = server.Listener.Close() // likewise
		}
	}
}

// ServeDNS implements dns.Handler.
func (s *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	switch {
	case q.Opcode != dns.OpcodeQuery:
		reply(w, q, new(dns.Msg).SetRcode(q, dns.RcodeNotImplemented))
		return
	case len(q.Question) != 1:
		reply(w, q, new(dns.Msg).SetRcode(q, dns.RcodeFormatError))
		return
	}
	client := source(w)
	if _, ok := s.network.SubnetOf(client); !ok { // another network's gateway can be reached, and is none of the client's business
		reply(w, q, new(dns.Msg).SetRcode(q, dns.RcodeRefused))
		return
	}
	if r := s.host(q, client); r != nil {
		reply(w, q, r)
		return
	}
	if r := s.local(q, client); r != nil {
		reply(w, q, r)
		return
	}
	reply(w, q, s.forward(q, client, w.RemoteAddr().Network() == "tcp"))
}

// reply answers, over UDP with no more than the client takes (512 bytes, or what it says by EDNS: RFC 6891): the rest it asks for over TCP.
func reply(w dns.ResponseWriter, q, r *dns.Msg) {
	r.Id = q.Id
	extended := q.IsEdns0()
	if extended != nil && r.IsEdns0() == nil {
		r.SetEdns0(maxUDPResponse, false)
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if extended != nil {
			size = max(size, min(int(extended.UDPSize()), maxUDPResponse))
		}
		r.Truncate(size)
	}
	_ = w.WriteMsg(r) // whoever asked may have gone
}

func source(w dns.ResponseWriter) netip.Addr {
	a, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}
