package relay

// Datagrams several at a time (recvmmsg(2), sendmmsg(2)).

import (
	"errors"
	"net"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	batchSize   = 32
	maxDatagram = 65527   // the largest payload of UDP, which is IPv6's
	queueSize   = 4 << 20 // what may wait for us: whoever sends does not
)

// buffers of datagrams are lent while there is something to carry. Of them only those pages are ever touched that had something in them.
var letters = sync.Pool{New: func() any {
	all := make([]byte, batchSize<<16)
	m := &mail{all: make([]ipv4.Message, batchSize)}
	for i := range m.all {
		m.all[i].Buffers = [][]byte{all[i<<16 : i<<16+maxDatagram]}
	}
	return m
}}

// mail is datagrams that were received together, in buffers that are lent.
type mail struct {
	all []ipv4.Message
	n   int
}

// list is what was received.
func (m *mail) list() []ipv4.Message { return m.all[:m.n] }

// lend gives the buffers back.
func (m *mail) lend() {
	for i := range m.n {
		b := &m.all[i]
		b.Buffers[0], b.Addr, b.N, b.OOB, b.NN = b.Buffers[0][:maxDatagram], nil, 0, nil, 0
	}
	m.n = 0
	letters.Put(m)
}

// batch is a socket that datagrams are passed through.
type batch struct {
	conn    net.Conn
	udp     *net.UDPConn     // nil for one that is not the kernel's
	many    *ipv4.PacketConn // likewise; its calls are those of any datagram socket
	refused func()           // called when the socket says that nobody listens where it sends to; may be nil
	control [][]byte         // room for what the kernel says about each datagram of a batch; nil when it is not asked (reportLocal)
}

func newBatch(c net.Conn, refused func()) *batch {
	b := &batch{conn: c, refused: refused}
	if udp, ok := c.(*net.UDPConn); ok {
		b.udp, b.many = udp, ipv4.NewPacketConn(udp)
		_ = udp.SetReadBuffer(queueSize) // the kernel gives as much of it as the host lets users have
	}
	return b
}

// receive waits for datagrams; lend must follow when there is no error.
func (b *batch) receive() (*mail, error) {
	for {
		m := letters.Get().(*mail)
		err := b.fill(m)
		if err == nil {
			return m, nil
		}
		m.lend()
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			b.refuse() // an answer to what was sent; the next one may arrive
		case errors.Is(err, unix.EAGAIN):
			if err := b.wait(); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

func (b *batch) fill(m *mail) (err error) {
	if b.many == nil {
		first := &m.all[0]
		first.N, err = b.conn.Read(first.Buffers[0])
		m.n = 1
	} else {
		for i := range b.control {
			m.all[i].OOB = b.control[i]
		}
		m.n, err = b.many.ReadBatch(m.all, unix.MSG_DONTWAIT)
	}
	if err != nil {
		m.n = 0
	}
	for i := range b.control[min(m.n, len(b.control)):] {
		m.all[m.n+i].OOB = nil // nothing was received there
	}
	if err != nil {
		return err
	}
	for i := range m.n {
		m.all[i].Buffers[0] = m.all[i].Buffers[0][:m.all[i].N]
	}
	return nil
}

func (b *batch) refuse() {
	if b.refused != nil {
		b.refused()
	}
}

// wait returns when there is something to receive.
func (b *batch) wait() error {
	raw, err := b.udp.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n != 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// send sends datagrams to whom the socket is connected with.
func (b *batch) send(list []ipv4.Message) error { return b.sendTo(list, nil, nil) }

// sendTo sends datagrams to an address, with what the kernel is to know besides. Those that cannot be sent are lost, as any may be.
func (b *batch) sendTo(list []ipv4.Message, to net.Addr, control []byte) error {
	for i := range list {
		list[i].Addr, list[i].OOB = to, control // they were those of the sender
	}
	for len(list) > 0 {
		n, err := b.write(list)
		switch {
		case err == nil:
		case errors.Is(err, unix.ECONNREFUSED):
			b.refuse() // an answer to one before; nothing was sent
			continue
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			n = 1
		}
		list = list[n:]
	}
	return nil
}

func (b *batch) write(list []ipv4.Message) (int, error) {
	if b.many != nil {
		return b.many.WriteBatch(list, 0)
	}
	_, err := b.conn.Write(list[0].Buffers[0])
	return 1, err
}
