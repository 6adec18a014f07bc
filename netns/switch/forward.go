package netswitch

// Questions about everything but containers: they go to the host's resolvers, or to those that the container was given (--dns).

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
)

const (
	resolverWait = 4 * time.Second
	// maxForwarded is how many questions of a network may wait for answers at once: each costs memory and a descriptor of the switch's.
	maxForwarded = 512
)

// ownResolvers are those that a container asked for.
type ownResolvers struct {
	list      []string
	container *os.File // its network namespace: a resolver on its loopback is there
	id        string
}

// resolver is one to be asked.
type resolver struct {
	at netip.AddrPort
	// inside is the network namespace that it is reached from; nil is the host's.
	inside *os.File
}

// use remembers the resolvers that a container at these addresses asked for, and what its /etc/hosts says; none forgets them.
func (s *names) use(e netns.Endpoint, list []string, hosts map[string][]netip.Addr, container *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, client := range []netip.Addr{e.IPv4, e.IPv6} {
		if delete(s.told, client); client.IsValid() && len(hosts) > 0 {
			s.told[client] = hosts
		}
		switch {
		case !client.IsValid():
		case len(list) == 0:
			delete(s.asked, client)
		default:
			s.asked[client] = ownResolvers{list, container, e.Container}
		}
	}
}

// forward asks one resolver after the other, until one knows an answer or that there is none.
func (s *names) forward(q *dns.Msg, client netip.Addr, tcp bool) *dns.Msg {
	failed := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return failed
	}
	all, err := s.resolvers(client)
	if err != nil {
		return failed
	}
	if s.network.Internal {
		if all = slices.DeleteFunc(all, func(r resolver) bool { return r.inside == nil }); len(all) == 0 {
			return new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*resolverWait)
	defer cancel()
	for _, r := range all {
		answer, err := r.ask(ctx, q, tcp)
		switch {
		case err != nil:
		case answer.Rcode == dns.RcodeServerFailure || answer.Rcode == dns.RcodeRefused || answer.Rcode == dns.RcodeNotImplemented:
			failed = answer // another one may do better (resolver(5))
		default:
			return answer
		}
	}
	return failed
}

// resolvers are those to ask for a client: its own, or the host's as they are now. The file is read each time, so a changed network needs no restart.
func (s *names) resolvers(client netip.Addr) (all []resolver, err error) {
	s.mu.Lock()
	own, asked := s.asked[client]
	s.mu.Unlock()
	if !asked {
		config, err := dns.ClientConfigFromFile(s.file)
		if err != nil {
			return nil, err
		}
		for _, text := range config.Servers {
			if at, err := netip.ParseAddrPort(net.JoinHostPort(text, config.Port)); err == nil {
				all = append(all, resolver{at: at})
			}
		}
		return all, nil
	}
	networks, err := s.view.NetworksOf(own.id)
	if err != nil {
		return nil, err
	}
	for _, text := range own.list {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue // what takes --dns has said so
		}
		r := resolver{at: netip.AddrPortFrom(a, 53)}
		switch {
		case a.IsLoopback():
			r.inside = own.container
		case slices.ContainsFunc(networks, func(n *netns.Network) bool { _, ok := n.SubnetOf(a); return ok }):
			r.inside = s.space // a container on one of its networks
		}
		all = append(all, r)
	}
	return all, nil
}

// ask asks one question. An answer over UDP that was cut is passed on as it is: the client asks over TCP then.
func (r resolver) ask(ctx context.Context, q *dns.Msg, tcp bool) (*dns.Msg, error) {
	kind := "udp"
	if tcp {
		kind = "tcp"
	}
	conn, err := r.dial(ctx, kind)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // a socket
	until := time.Now().Add(resolverWait)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	// The library's exchange takes no more than the client has room for, as it says by EDNS, and fails when a resolver sends more.
	exchange := &dns.Conn{Conn: conn, UDPSize: maxUDPResponse}
	if err := errors.Join(conn.SetDeadline(until), exchange.WriteMsg(q)); err != nil {
		return nil, err
	}
	for {
		answer, err := exchange.ReadMsg()
		if err != nil || answer.Id == q.Id {
			return answer, err
		}
	}
}

// dial connects to the resolver. A thread that has entered another namespace cannot come back, so it ends with its goroutine; its socket stays.
func (r resolver) dial(ctx context.Context, kind string) (conn net.Conn, err error) {
	dialer := &net.Dialer{Timeout: resolverWait}
	if r.inside == nil {
		return dialer.DialContext(ctx, kind, r.at.String())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = unix.Setns(int(r.inside.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = dialer.DialContext(ctx, kind, r.at.String()) // one address: the socket is made on this thread
		}
	}()
	<-done
	return conn, err
}
