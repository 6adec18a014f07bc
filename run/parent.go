package run

import (
	"fmt"
	"os"
	"slices"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/stage"
)

// answer reads a monitor's answer. Before it a monitor may ask for what is the host's, where it has no rights: the parent of a macvlan network, or a port. Neither has a front that is
// an ordinary user's.
func (h *Host) answer(conn *stage.Conn) (stage.Reply, error) {
	for {
		var reply stage.Reply
		files, err := conn.Receive(&reply)
		if err != nil {
			return reply, err
		}
		var back stage.Request
		var given []*os.File
		switch {
		case reply.Kind == stage.Parent:
			back = h.parent(reply.Network, files)
		case reply.Kind == stage.Port && reply.Port != nil:
			back, given = port(*reply.Port)
		default:
			if reply.Warning != "" && h.Warn != nil {
				h.Warn(reply.Warning)
			}
			return reply, nil
		}
		err = conn.Send(back, given...)
		for _, f := range slices.Concat(files, given) {
			f.Close()
		}
		if err != nil {
			return reply, err
		}
	}
}

// parent answers who asks for a macvlan network's parent, in the namespace that comes along.
func (h *Host) parent(network string, files []*os.File) stage.Request {
	back := stage.Request{Op: stage.OpParent}
	if os.Geteuid() == 0 && len(files) == 1 {
		if err := h.giveParent(network, files[0]); err != nil {
			back.Error = err.Error()
		} else {
			back.Given = true
		}
	}
	return back
}

// giveParent puts a macvlan interface on the host's into the switch's network namespace: those that the switch makes on it are on the host's interface, too.
func (h *Host) giveParent(network string, space *os.File) error {
	n, err := netns.Open(h.Records.Data, h.Records.Run).Find(network)
	if err != nil {
		return err
	}
	if !n.Over() {
		return fmt.Errorf("cannot give network %s a parent: it has none", n.Name)
	}
	return plug.Give(n, space)
}
