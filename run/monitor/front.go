package monitor

// What a monitor asks its front for, which is outside of the user namespace and may have rights over what is the host's.

import (
	"errors"
	"fmt"
	"os"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
)

// front is the one at the other end of a control connection.
type front struct{ conn *stage.Conn }

// ask sends a question and waits for its answer; false when the front has gone, may not, or is an older one. The files that come along are the caller's.
func (f *front) ask(question stage.Reply, op stage.Op, files ...*os.File) ([]*os.File, bool, error) {
	if err := f.conn.Send(question, files...); err != nil {
		return nil, false, nil
	}
	var answer stage.Request
	got, err := f.conn.Receive(&answer)
	switch {
	case err != nil || answer.Op != op:
		return got, false, nil
	case answer.Error != "":
		return got, false, &plug.Refusal{Text: answer.Error, Hint: answer.Hint}
	}
	return got, answer.Given, nil
}

// parent asks for the parent of a macvlan network, into the namespace space.
func (f *front) parent(network string, space *os.File) (bool, error) {
	got, given, err := f.ask(stage.Reply{Kind: stage.Parent, Network: network}, stage.OpParent, space)
	closeAll(got)
	if err != nil {
		return false, fmt.Errorf("cannot connect to network %s: %w", network, err)
	}
	return given, nil
}

// port asks for the socket of a port; nil when the front may not.
func (f *front) port(p plug.Port) (*os.File, error) {
	asked := config.Port{Container: p.Container, Host: p.Host, HostEnd: p.HostEnd, Protocol: p.Protocol}
	if p.IP.IsValid() {
		asked.HostIP = p.IP.String()
	}
	got, given, err := f.ask(stage.Reply{Kind: stage.Port, Port: &asked}, stage.OpPort)
	if err != nil || !given || len(got) != 1 {
		closeAll(got)
		return nil, err
	}
	return got[0], nil
}

// nic asks for an interface on a bridge of the host's, in the network namespace of process pid.
func (f *front) nic(n config.NIC, pid int) error {
	if f == nil {
		return fmt.Errorf("cannot get an interface on bridge %s: whoever started the container has gone", n.Bridge)
	}
	got, given, err := f.ask(stage.Reply{Kind: stage.NIC, NIC: &n, Pid: pid}, stage.OpNIC)
	closeAll(got)
	if err == nil && !given {
		err = fmt.Errorf("cannot get an interface on bridge %s: whoever started the container has gone", n.Bridge)
	}
	return err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// provide does what needs parents of macvlan networks in the switch's namespace and ports of the host, and gets what the switch has not from the front.
func (n *network) provide(f *front, do func() error) error {
	for {
		err := do()
		var no *plug.Refusal
		if f == nil || !errors.As(err, &no) {
			return err
		}
		var given bool
		var askErr error
		switch {
		case no.Parent != "":
			given, askErr = f.parent(no.Parent, n.cable.Space())
		case len(no.Denied) > 0:
			given, askErr = n.borrow(f, no.Denied)
		}
		if askErr != nil {
			return askErr
		}
		if !given {
			return err
		}
	}
}

// borrow gets sockets of ports by their places; false when one of them cannot be had.
func (n *network) borrow(f *front, places []int) (bool, error) {
	ports := plug.Expand(n.request.Ports)
	for _, i := range places {
		if i < 0 || i >= len(ports) || n.sockets.Has(i) {
			return false, nil
		}
		socket, err := f.port(ports[i])
		if err != nil || socket == nil {
			return false, err
		}
		if err := n.sockets.Give(i, socket); err != nil {
			return false, err
		}
	}
	return true, nil
}
