package run

import (
	"fmt"
	"os"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/stage"
)

// answer reads a monitor's answer. Before it a monitor may ask for the parent of a macvlan network, which is an interface of the host's: the monitor has no rights there,
// and neither has a front that is not root's.
func (h *Host) answer(conn *stage.Conn) (reply stage.Reply, err error) {
	for {
		reply = stage.Reply{}
		files, err := conn.Receive(&reply)
		if err != nil || reply.Kind != stage.Parent {
			return reply, err
		}
		back := stage.Request{Op: stage.OpParent}
		if os.Geteuid() == 0 && len(files) == 1 {
			if err := h.giveParent(reply.Network, files[0]); err != nil {
				back.Error = err.Error()
			} else {
				back.Given = true
			}
		}
		for _, f := range files {
			f.Close()
		}
		if err := conn.Send(back); err != nil {
			return reply, err
		}
	}
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
