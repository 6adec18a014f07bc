package run

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
)

// answer reads a monitor's answer. Before it a monitor may ask for what is the host's, where it has no rights: the parent of a macvlan network, a port, or an interface on a bridge. Of these a front that is
// an ordinary user's has the last only.
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
		case reply.Kind == stage.NIC && reply.NIC != nil:
			back = nic(*reply.NIC, reply.Pid)
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

// nic answers who asks for an interface on a bridge of the host's.
func nic(n config.NIC, pid int) stage.Request {
	back := stage.Request{Op: stage.OpNIC, Given: true}
	if err := plug.GiveNIC(n, pid); err != nil {
		back = stage.Request{Op: stage.OpNIC, Error: err.Error(), Hint: hintOf(err)}
	}
	return back
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

// hintOf is what the user can do about an error, where it says so.
func hintOf(err error) string {
	var hint interface{ HintText() string }
	if errors.As(err, &hint) {
		return hint.HintText()
	}
	return ""
}
