package monitor

// The network of --network lxc-user-nic: an interface on a bridge of the host's. Who may do what:
//
//	front      runs the set-uid program that makes it: it has rights over the host's network for a process in the host's user namespace only
//	engine     gives it an address: a process per question (netns/dhcp), which a monitor could not be without its libraries
//	monitor    knows when the address is to be renewed (nic_lease.go). Between two lives of a container it keeps the network namespace of the one before with the interface in it, and has it moved to the next: a
//	           restart policy needs no front
//
// The interface goes with the last network namespace that it is in, and its other end on the bridge with it: with the container, or with a monitor that is killed.

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/record"
)

// nic is a container's interface on a bridge of the host's, over all of its lives.
type nic struct {
	config.NIC
	network  string // as it was asked for
	engine   string
	hostname string
	front    *front   // nil when there is none
	space    *os.File // the network namespace that it is in, or is to be; nil before
	made     bool     // it is there

	mu      sync.Mutex
	lease   *stage.Lease  // nil without an address; the watch's while there is one
	asked   time.Duration // when it was asked for: how long the machine was up
	watched chan struct{} // closed when the watch has ended
}

// openNIC reads what is asked for; nil when another kind of network is. The one of the life before is kept.
func (m *monitor) openNIC() *nic {
	n, ok := m.record.Config.NIC()
	if !ok {
		return nil
	}
	if n.MAC == "" {
		n.MAC = macOf(m.record.ID)
	}
	if m.nic == nil {
		return &nic{NIC: n, network: m.record.Config.Network, engine: m.engine}
	}
	return m.nic
}

// macOf makes a MAC address of a container's id: a server knows the container by it and gives it the same address again.
func macOf(id string) string {
	mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 0}
	if b, err := hex.DecodeString(id[:10]); err == nil {
		copy(mac[1:], b)
	}
	return mac.String()
}

// connectNIC gives the container's network namespace, which is that of process pid, the interface and an address.
func (m *monitor) connectNIC(pid int) error {
	n := m.nic
	n.hostname = m.hostname()
	space, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return fmt.Errorf("cannot connect to the network: %w", err)
	}
	before := n.space
	n.space = space
	if before != nil {
		defer before.Close()
	}
	q, err := n.question()
	if err == nil && before == nil {
		err = n.front.nic(n.NIC, pid)
		n.made = err == nil
	}
	if err != nil {
		return err
	}
	if err := n.settle(context.Background(), q, before); err != nil {
		return err
	}
	return m.refreshFiles(nil)
}

// question is how a container comes to its address: a fixed one, one that still holds, or by DHCP.
func (n *nic) question() (stage.LeaseQuestion, error) {
	q := stage.LeaseQuestion{Do: stage.LeaseObtain, MAC: n.MAC, MTU: n.MTU, Lease: n.lease}
	switch {
	case n.lease != nil && (n.lease.Length == 0 || n.left() > time.Second):
		q.Do = stage.LeaseSet
	case n.lease == nil && n.Address.IsValid():
		own, router, err := plug.FixedNIC(n.NIC)
		if err != nil {
			return q, err
		}
		q.Do, q.Lease = stage.LeaseSet, &stage.Lease{Address: own, Gateway: router}
	}
	return q, nil
}

// settle asks for an address and keeps it. What is set again is set for the time that is left of it.
func (n *nic) settle(ctx context.Context, q stage.LeaseQuestion, before *os.File) error {
	asked := uptime()
	kept := q.Do == stage.LeaseSet && n.lease != nil
	if kept && n.lease.Length > 0 {
		rest := *n.lease
		rest.Length = n.left()
		q.Lease = &rest
	}
	answer, err := n.ask(ctx, q, before)
	if err != nil || kept {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lease, n.asked = answer.Lease, asked
	return nil
}

// leaseError is why there is no address, and whether a server said so.
type leaseError struct {
	plug.Refusal
	refused bool
}

// ask has the engine answer a question about the address.
func (n *nic) ask(ctx context.Context, q stage.LeaseQuestion, before *os.File) (*stage.LeaseAnswer, error) {
	q.Interface, q.Hostname, q.Moves = plug.NICName, n.hostname, before != nil
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, n.engine)
	cmd.Args[0] = stage.DHCP
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &out, &said
	cmd.ExtraFiles = []*os.File{n.space}
	if before != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, before)
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("cannot give the container an address: %w %s", err, strings.TrimSpace(said.String()))
	}
	var answer stage.LeaseAnswer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return nil, fmt.Errorf("cannot give the container an address: the engine's answer: %w", err)
	}
	switch {
	case answer.Silent:
		return nil, &leaseError{Refusal: plug.Refusal{
			Text: fmt.Sprintf("cannot get an address on bridge %s: no DHCP server has answered", n.Bridge),
			Hint: "LXC's service lxc-net has one on lxcbr0; --ip gives an address without one",
		}}
	case answer.Error != "":
		return nil, &leaseError{Refusal: plug.Refusal{Text: answer.Error}, refused: answer.Refused}
	case answer.Lease == nil && q.Do != stage.LeaseRelease:
		return nil, errors.New("cannot give the container an address: the engine's answer has none")
	}
	return &answer, nil
}

// left is for how long the address still holds.
func (n *nic) left() time.Duration { return n.asked + n.lease.Length - uptime() }

// await waits for the end of the watch, which has been told.
func (n *nic) await() {
	if n != nil && n.watched != nil {
		<-n.watched
		n.watched = nil
	}
}

// release gives the address back, if there is one, and the interface, which would otherwise go when the kernel comes to it: whoever may have one only could not start the next container at once. There is no next life.
func (n *nic) release() {
	if n == nil || n.space == nil {
		return
	}
	if n.made {
		_, _ = n.ask(context.Background(), stage.LeaseQuestion{Do: stage.LeaseRelease, Lease: n.lease}, nil) // what cannot be given back ends by itself
	}
	n.space.Close()
	n.space, n.lease, n.made = nil, nil, false
}

// record is what inspect shows.
func (n *nic) record(s *record.Started) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := record.Endpoint{Network: n.network, MAC: n.MAC}
	if n.lease != nil {
		e.IPv4 = n.lease.Address.String()
		if n.lease.Gateway.IsValid() {
			e.Gateway4 = n.lease.Gateway.String()
		}
	}
	s.Networks = []record.Endpoint{e}
}

// hosts are the container's own lines of /etc/hosts.
func (n *nic) hosts(names string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lease == nil {
		return "127.0.1.1\t" + names + "\n"
	}
	return n.lease.Address.Addr().String() + "\t" + names + "\n"
}

// resolver are the name servers and the domains that the DHCP server told of.
func (n *nic) resolver() (servers, search []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lease == nil {
		return nil, nil
	}
	for _, s := range n.lease.Servers {
		servers = append(servers, s.String())
	}
	return servers, n.lease.Search
}
