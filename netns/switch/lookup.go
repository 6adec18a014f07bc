package netswitch

// Names and addresses of containers, as the name servers answer them.

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/skiff-containers/skiff/netns"
)

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
	ask := q.Question[0]
	if !network.User() || ask.Qclass != dns.ClassINET {
		return nil // the default network has no names, as Docker's
	}
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	header := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: ask.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
	}
	if ask.Qtype == dns.TypePTR {
		for _, e := range all {
			if reverse(e.IPv4) == strings.ToLower(ask.Name) || reverse(e.IPv6) == strings.ToLower(ask.Name) {
				r.Answer = append(r.Answer, &dns.PTR{Hdr: header(dns.TypePTR), Ptr: pointer(e, network)})
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
	rand.Shuffle(len(r.Answer), func(i, j int) { r.Answer[i], r.Answer[j] = r.Answer[j], r.Answer[i] })
	return r
}

// pointer is the name behind an endpoint's addresses. A container's name may be longer than a part of a name of DNS; its id is not.
func pointer(e *netns.Endpoint, network netns.Network) string {
	name := dns.Fqdn(e.Name + "." + network.Name)
	for _, own := range []string{name, dns.Fqdn(e.Container[:min(12, len(e.Container))] + "." + network.Name), dns.Fqdn(e.Container[:min(12, len(e.Container))])} {
		if _, ok := dns.IsDomainName(own); ok {
			return own
		}
	}
	return name
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
