package tests

// A name server and somebody who asks it, for the scripts about names: one static program that runs in containers.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// resolverName is what the test binary is called when it is the program.
const resolverName = "resolver"

// cmdResolver puts the program into the script's directory.
func cmdResolver(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(putSelf(ts.MkAbs(resolverName)))
}

// resolve is its life: serve ADDRESS TEXT, try udp|tcp ADDRESS, or ask SERVER[:PORT] NAME TYPE [udp|tcp [SIZE]], which prints the code, what was cut, and the answers.
func resolve(args []string) int {
	err := errors.New("usage: resolver serve ADDRESS TEXT | try udp|tcp ADDRESS | ask SERVER[:PORT] NAME TYPE [udp|tcp [SIZE]]")
	switch {
	case len(args) == 3 && args[0] == "serve":
		err = resolverServe(args[1], args[2])
	case len(args) == 3 && args[0] == "try":
		err = resolverTry(args[1], args[2])
	case len(args) >= 4 && args[0] == "ask":
		err = resolverAsk(args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// resolverServe answers all questions with one text; those about names that begin with large, with forty of them.
func resolverServe(at, text string) error {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		count := 1
		if strings.HasPrefix(q.Question[0].Name, "large") {
			count = 40
		}
		for i := range count {
			r.Answer = append(r.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text + strings.Repeat("-", i)}})
		}
		if w.RemoteAddr().Network() == "udp" {
			size := dns.MinMsgSize
			if e := q.IsEdns0(); e != nil {
				size = int(e.UDPSize())
			}
			r.Truncate(size)
		}
		_ = w.WriteMsg(r) // whoever asked sees that nothing came
	})
	end := make(chan error, 2)
	for _, kind := range []string{"udp", "tcp"} {
		go func() { end <- (&dns.Server{Addr: at, Net: kind, Handler: handler}).ListenAndServe() }()
	}
	return <-end
}

// resolverTry says whether it could serve there.
func resolverTry(kind, at string) error {
	if kind == "udp" {
		c, err := net.ListenPacket(kind, at)
		if err == nil {
			err = c.Close()
		}
		return err
	}
	l, err := net.Listen(kind, at)
	if err == nil {
		err = l.Close()
	}
	return err
}

func resolverAsk(args []string) error {
	kind, size := "udp", 0
	if len(args) > 3 {
		kind = args[3]
	}
	if len(args) > 4 {
		var err error
		if size, err = strconv.Atoi(args[4]); err != nil {
			return err
		}
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(args[1]), dns.StringToType[args[2]])
	if size > 0 {
		q.SetEdns0(uint16(size), false)
	}
	c := &dns.Client{Net: kind, Timeout: 20 * time.Second, UDPSize: 4096}
	server := args[0]
	if !strings.Contains(server, ":") {
		server += ":53"
	}
	r, _, err := c.Exchange(q, server)
	if err != nil {
		return err
	}
	fmt.Printf("%s answers=%d truncated=%v\n", dns.RcodeToString[r.Rcode], len(r.Answer), r.Truncated)
	for _, a := range r.Answer {
		fmt.Println(strings.TrimPrefix(a.String(), a.Header().String()))
	}
	return nil
}
