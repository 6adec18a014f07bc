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

// host answers questions about names that the client has in its /etc/hosts. Nil when the question is about something else.
func (s *names) host(q *dns.Msg, client netip.Addr) *dns.Msg {
	ask := q.Question[0]
	s.mu.Lock()
	all := s.told[client][strings.ToLower(strings.TrimSuffix(ask.Name, "."))]
	s.mu.Unlock()
	if len(all) == 0 || ask.Qclass != dns.ClassINET {
		return nil
	}
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	for _, a := range all {
		switch {
		case a.Is4() && ask.Qtype == dns.TypeA:
			r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: ask.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: a.AsSlice()})
		case a.Is6() && ask.Qtype == dns.TypeAAAA:
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: dns.RR_Header{Name: ask.Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: ttl}, AAAA: a.AsSlice()})
		}
	}
	return r
}

// local answers questions about the containers of the networks that the client is on: of this one, then of its others. Nil when the question is about something else.
func (s *names) local(q *dns.Msg, client netip.Addr) *dns.Msg {
	failed := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	book, err := s.view.Book(&s.network)
	if err != nil {
		return failed
	}
	asking := book.At(client)
	if r := lookup(q, s.network, book, asking); r != nil || asking == nil {
		return r
	}
	others, err := s.view.NetworksOf(asking.Container)
	if err != nil {
		return failed
	}
	for _, n := range others {
		if n.ID == s.network.ID {
			continue
		}
		there, err := s.view.Book(n)
		if err != nil {
			return failed
		}
		if r := lookup(q, *n, there, there.Of(asking.Container)); r != nil { // links are noted with the place that they were asked for
			return r
		}
	}
	return nil
}

// lookup answers a question about the containers of one network; client is the place there of the one that asks, nil when it has none.
func lookup(q *dns.Msg, network netns.Network, book *netns.Book, client *netns.Endpoint) *dns.Msg {
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
		e := book.At(reversed(ask.Name))
		if e == nil {
			return nil
		}
		r.Answer = append(r.Answer, &dns.PTR{Hdr: header(dns.TypePTR), Ptr: pointer(e, network)})
		return r
	}
	all := called(book, network, strings.ToLower(strings.TrimSuffix(ask.Name, ".")), client)
	if len(all) == 0 {
		return nil
	}
	for _, e := range all {
		if ask.Qtype == dns.TypeA && e.IPv4.IsValid() {
			r.Answer = append(r.Answer, &dns.A{Hdr: header(dns.TypeA), A: e.IPv4.AsSlice()})
		}
		if ask.Qtype == dns.TypeAAAA && e.IPv6.IsValid() {
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: header(dns.TypeAAAA), AAAA: e.IPv6.AsSlice()})
		}
	}
	// Round robin over a service: the order changes with each answer.
	rand.Shuffle(len(r.Answer), func(i, j int) { r.Answer[i], r.Answer[j] = r.Answer[j], r.Answer[i] })
	return r
}

// called are the containers that the client means by a name, with or without the network's behind it: theirs, and those that it alone calls so (--link).
func called(book *netns.Book, network netns.Network, name string, client *netns.Endpoint) (all []*netns.Endpoint) {
	add := func(e *netns.Endpoint) {
		if e != nil && !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	words := []string{name}
	if short, ok := strings.CutSuffix(name, "."+strings.ToLower(network.Name)); ok {
		words = append(words, short)
	}
	for _, word := range words {
		for _, e := range book.Named(word) {
			add(e)
		}
		if client == nil {
			continue
		}
		for alias, id := range client.Links {
			if strings.EqualFold(alias, word) {
				add(book.Of(id))
			}
		}
	}
	return all
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

// reversed is the address that a question about the name behind an address is about (in-addr.arpa, ip6.arpa); the invalid one when it is about none.
func reversed(name string) netip.Addr {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	text, four := strings.CutSuffix(name, ".in-addr.arpa")
	separator, want := ".", 4
	if !four {
		var six bool
		if text, six = strings.CutSuffix(name, ".ip6.arpa"); !six {
			return netip.Addr{}
		}
		want = 32
	}
	parts := strings.Split(text, ".")
	if len(parts) != want {
		return netip.Addr{}
	}
	slices.Reverse(parts)
	if !four {
		groups := make([]string, 0, 8)
		for ; len(parts) > 0; parts = parts[4:] {
			groups = append(groups, strings.Join(parts[:4], ""))
		}
		parts, separator = groups, ":"
	}
	a, err := netip.ParseAddr(strings.Join(parts, separator))
	if err != nil || a.Is4() != four {
		return netip.Addr{}
	}
	return a
}
