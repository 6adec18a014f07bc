package monitor

// Leases of addresses end: somebody has to ask for more time (RFC 2131, section 4.4.5). The monitor waits, and starts an engine for each question.

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/stage"
)

// Pauses before a question is asked again that nobody answered: half of the time that is left, but not less than the one; and the other without an address.
const (
	leastAgain = time.Second
	lostAgain  = 10 * time.Second
)

// watchNIC keeps the address of the running container for as long as servers let it.
func (m *monitor) watchNIC(ctx context.Context, n *nic) {
	defer close(n.watched)
	if n.lease.Length == 0 {
		return
	}
	for next := n.asked + n.lease.Renew; awaitUptime(ctx, next); {
		next = m.renewNIC(ctx, n)
	}
}

// unwatchNIC ends the watches of a container that has ended, when it has an interface on a bridge of the host's.
func (m *monitor) unwatchNIC() {
	if m.nic != nil && m.unwatch != nil {
		m.unwatch()
		m.unwatch = nil
		m.nic.await()
	}
}

// renewNIC asks once, and returns when to ask again.
func (m *monitor) renewNIC(ctx context.Context, n *nic) time.Duration {
	do, limit := stage.LeaseRenew, n.asked+n.lease.Rebind
	now := uptime()
	if now >= limit {
		do, limit = stage.LeaseRebind, n.asked+n.lease.Length
	}
	if now >= limit {
		do = stage.LeaseObtain
	}
	asking, cancel := ctx, context.CancelFunc(func() {})
	if do != stage.LeaseObtain {
		asking, cancel = context.WithTimeout(ctx, max(limit-now, leastAgain))
	}
	defer cancel()
	before := *n.lease
	err := n.settle(asking, stage.LeaseQuestion{Do: do, Lease: &before, MAC: n.MAC, MTU: n.MTU}, nil)
	var no *leaseError
	switch {
	case ctx.Err() != nil:
	case err == nil:
		m.noteNIC(n, &before)
		if n.lease.Length == 0 {
			return forever
		}
		return n.asked + n.lease.Renew
	case errors.As(err, &no) && no.refused && do != stage.LeaseObtain:
		n.mu.Lock()
		n.asked = uptime() - n.lease.Length // it is over
		n.mu.Unlock()
		return uptime() + leastAgain
	}
	if do == stage.LeaseObtain {
		return uptime() + lostAgain
	}
	return uptime() + max((limit-uptime())/2, leastAgain)
}

// forever is later than anything.
const forever = time.Duration(1<<63 - 1)

// noteNIC has inspect, hosts and resolv.conf tell what has changed with a lease. What cannot be written is not worth the container's end.
func (m *monitor) noteNIC(n *nic, before *stage.Lease) {
	now := n.lease
	if now.Address != before.Address || now.Gateway != before.Gateway {
		if st, err := m.store.Status(m.record.ID); err == nil && st.Started != nil {
			started := *st.Started
			n.record(&started)
			_ = m.store.WriteStarted(m.record.ID, started, m.sync)
		}
	}
	_ = m.refreshFiles(nil)
}

// awaitUptime waits until the machine has been up for a time, which goes on while it sleeps as servers' clocks do; false when ctx is done before.
func awaitUptime(ctx context.Context, at time.Duration) bool {
	if at == forever {
		<-ctx.Done()
		return false
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return false
	}
	timer := os.NewFile(uintptr(fd), "lease")
	defer timer.Close()
	// A value of zero would disarm it.
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(at), 1))}, nil); err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { timer.Close() })
	defer stop()
	_, err = timer.Read(make([]byte, 8))
	return err == nil && ctx.Err() == nil
}
