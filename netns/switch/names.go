package netswitch

// Name servers: on each bridge's gateway one that knows the containers of its network, and asks the host's resolvers everything else.

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/skiff-containers/skiff/netns"
)

// names is one network's name server.
type names struct {
	store   *netns.Store
	network netns.Network
	servers []*dns.Server
	mu      sync.Mutex
	asked   map[netip.Addr][]string // by client: resolvers of its own (--dns)
}

const (
	ttl            = 0 // containers come and go
	resolverWait   = 4 * time.Second
	maxUDPResponse = 4096
)

// serveNames starts the name servers of a network, on all of its gateways.
func (h *hub) serveNames(n netns.Network) (*names, error) {
	s := &names{store: h.store, network: n, asked: map[netip.Addr][]string{}}
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

// use remembers the resolvers that a container asked for; none forgets them.
func (s *names) use(client netip.Addr, resolvers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(resolvers) == 0 {
		delete(s.asked, client)
	} else {
		s.asked[client] = resolvers
	}
}

// ServeDNS implements dns.Handler.
func (s *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		reply(w, q, new(dns.Msg).SetRcode(q, dns.RcodeNotImplemented))
		return
	}
	if r := s.local(q, source(w)); r != nil {
		reply(w, q, r)
		return
	}
	r, err := s.forward(q, source(w), w.RemoteAddr().Network() == "tcp")
	if err != nil {
		r = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	reply(w, q, r)
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

// local answers questions about the containers of the networks that the client is on: of this one, then of its others. Nil when the question is about something else.
func (s *names) local(q *dns.Msg, client netip.Addr) *dns.Msg {
	all, err := s.store.Endpoints(&s.network)
	if err != nil {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	if r := lookup(q, s.network, all, client); r != nil {
		return r
	}
	i := slices.IndexFunc(all, func(e *netns.Endpoint) bool { return e.IPv4 == client || e.IPv6 == client })
	if i < 0 {
		return nil
	}
	others, err := s.store.NetworksOf(all[i].Container)
	if err != nil {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	for _, n := range others {
		if n.ID == s.network.ID {
			continue
		}
		there, err := s.store.Endpoints(&n)
		if err != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		}
		at := client
		for _, e := range there {
			if e.Container == all[i].Container { // links are noted with the place that they were asked for
				if at = e.IPv4; !at.IsValid() {
					at = e.IPv6
				}
			}
		}
		if r := lookup(q, n, there, at); r != nil {
			return r
		}
	}
	return nil
}

// lookup answers a question about the containers of one network, all of which are given; client is the asking one's address there.
func lookup(q *dns.Msg, network netns.Network, all []*netns.Endpoint, client netip.Addr) *dns.Msg {
	if !network.User() {
		return nil // the default network has no names, as Docker's
	}
	ask := q.Question[0]
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	header := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: ask.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
	}
	if ask.Qtype == dns.TypePTR {
		for _, e := range all {
			if reverse(e.IPv4) == strings.ToLower(ask.Name) || reverse(e.IPv6) == strings.ToLower(ask.Name) {
				r.Answer = append(r.Answer, &dns.PTR{Hdr: header(dns.TypePTR), Ptr: dns.Fqdn(e.Name + "." + network.Name)})
			}
		}
		if len(r.Answer) == 0 {
			return nil
		}
		return r
	}
	name := strings.ToLower(strings.TrimSuffix(ask.Name, "."))
	name = strings.TrimSuffix(name, "."+strings.ToLower(network.Name))
	known := false
	for _, e := range all {
		if !slices.ContainsFunc(e.Names(), func(n string) bool { return strings.EqualFold(n, name) }) && !linked(all, client, name, e) {
			continue
		}
		known = true
		if ask.Qtype == dns.TypeA && e.IPv4.IsValid() {
			r.Answer = append(r.Answer, &dns.A{Hdr: header(dns.TypeA), A: e.IPv4.AsSlice()})
		}
		if ask.Qtype == dns.TypeAAAA && e.IPv6.IsValid() {
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: e.IPv6.AsSlice()})
		}
	}
	if !known {
		return nil
	}
	// Round robin over a service: the order changes with each answer.
	if n := len(r.Answer); n > 1 {
		k := int(time.Now().UnixNano()/1000) % n
		r.Answer = slices.Concat(r.Answer[k:], r.Answer[:k])
	}
	return r
}

// linked says whether the client calls e by name (--link).
func linked(all []*netns.Endpoint, client netip.Addr, name string, e *netns.Endpoint) bool {
	for _, c := range all {
		if c.IPv4 == client || c.IPv6 == client {
			for alias, id := range c.Links {
				if strings.EqualFold(alias, name) && id == e.Container {
					return true
				}
			}
		}
	}
	return false
}

func reverse(a netip.Addr) string {
	if !a.IsValid() {
		return "?"
	}
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return "?"
	}
	return name
}

// forward asks the host's resolvers as they are now: the file is read each time, so a changed network needs no restart.
func (s *names) forward(q *dns.Msg, client netip.Addr, tcp bool) (*dns.Msg, error) {
	if s.network.Internal {
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError), nil
	}
	s.mu.Lock()
	resolvers := s.asked[client]
	s.mu.Unlock()
	port := "53"
	if resolvers == nil {
		config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, err
		}
		resolvers, port = config.Servers, config.Port
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*resolverWait)
	defer cancel()
	exchange := &dns.Client{Timeout: resolverWait, UDPSize: maxUDPResponse}
	if tcp {
		exchange.Net = "tcp"
	}
	err := errors.New("the host has no resolvers")
	for _, resolver := range resolvers {
		var r *dns.Msg
		if r, _, err = exchange.ExchangeContext(ctx, q, net.JoinHostPort(resolver, port)); err == nil {
			return r, nil
		}
	}
	return nil, err
}
