package relay

import (
	"errors"
	"net"
	"testing"
	"time"
)

// pair is two sockets of UDP that are connected with each other.
func pair(t *testing.T) (a, b *net.UDPConn) {
	t.Helper()
	first, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = net.DialUDP("udp4", nil, first.LocalAddr().(*net.UDPAddr)); err != nil {
		t.Fatal(err)
	}
	at := first.LocalAddr().(*net.UDPAddr)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = net.DialUDP("udp4", at, b.LocalAddr().(*net.UDPAddr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() }) // closed already, mostly
	return a, b
}

// A flow that nobody answers is forgotten in its own time.
func TestUnansweredFlowsAreForgotten(t *testing.T) {
	for _, idle := range []Idle{{Unanswered: 50 * time.Millisecond, Answered: time.Hour}, {}} {
		_, in := pair(t)
		out, _ := pair(t)
		Carry(in, out, idle, nil)
		if _, err := in.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the sockets are open still: %v", err)
		}
	}
}

func TestAnAnswerMakesAFlowLast(t *testing.T) {
	flow := newTraffic(Idle{Unanswered: time.Minute, Answered: time.Hour})
	for _, c := range []struct {
		answer bool
		most   time.Duration
	}{{false, time.Minute}, {true, time.Hour}, {false, time.Hour}} {
		before := time.Now()
		flow.note(c.answer)
		if end := flow.end(); end.Before(before.Add(c.most)) || end.After(time.Now().Add(c.most)) {
			t.Errorf("after one with answer %v it ends in %s, want %s", c.answer, time.Until(end), c.most)
		}
	}
}
