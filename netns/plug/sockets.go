package plug

// What a monitor keeps of its container's ports.
//
//	port's socket      made by    the monitor has it   between two lives of the container
//	as most            switch     a moment later       TCP's, asked for by number: refuses. Another: is made anew
//	below 1024         front      from the first       TCP's refuses. UDP's: takes what nobody reads
//
// For as long as the monitor has a socket the port is nobody else's, whatever happens to the switch: clients that come while there is none wait in the socket for the next one, which is lent it. Of a switch
// that dies before it has handed a socket out, the next one binds the port anew.

import (
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Sockets are those that a monitor has, by their places in the list of single ports. The zero value has none. They are numbers, not files: the runtime watches a file whose descriptor does not block, and
// would wake the monitor up for each client that the switch serves.
type Sockets struct {
	mu   sync.Mutex
	all  map[int]socket
	over bool // there is no next life
}

// socket is a descriptor.
type socket struct {
	fd    int
	given bool // by the front: no switch can make it
}

// Give adds one that the front has made, and closes the file.
func (s *Sockets) Give(place int, f *os.File) error {
	defer f.Close()
	return control(f, func(fd int) error {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			s.add(place, socket{own, true})
		}
		return err
	})
}

func (s *Sockets) add(place int, one socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, there := s.all[place]
	switch {
	case s.over:
		unix.Close(one.fd)
		return
	case there:
		unix.Close(before.fd)
	case s.all == nil:
		s.all = map[int]socket{}
	}
	s.all[place] = one
}

// Has says whether there is one.
func (s *Sockets) Has(place int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.all[place]
	return there
}

// places are those that there are.
func (s *Sockets) places() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.all))
}

// with hands descriptors of places to f: they stay open meanwhile.
func (s *Sockets) with(places []int, f func(places, fds []int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var there, fds []int
	for _, i := range places {
		if one, ok := s.all[i]; ok {
			there, fds = append(there, i), append(fds, one.fd)
		}
	}
	return f(there, fds)
}

// room is how many more there may be: a quarter of the monitor's descriptors is for them. Ports beyond are bound anew by the next switch.
func (s *Sockets) room() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, int(min(l.Cur, 1<<20))/4-len(s.all))
}

// Pause is the end of one of the container's lives, for which ports were asked for: clients are refused until the next one, whoever has the sockets besides. What needs no keeping is let go, so that the port is
// free as soon as the switch has let it go too: datagrams would wait for somebody, and where any port will do the next life has another.
func (s *Sockets) Pause(ports []Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := Expand(ports)
	for place, one := range s.all {
		if listens, err := unix.GetsockoptInt(one.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens != 0 {
			_ = unix.Shutdown(one.fd, unix.SHUT_RDWR) // the kernel refuses it of what does not listen
		}
		if !one.given && (place >= len(list) || list[place].Protocol != "tcp" || list[place].Host == 0) {
			unix.Close(one.fd)
			delete(s.all, place)
		}
	}
}

// Close lets all go, and what comes from then on: the container has ended.
func (s *Sockets) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		unix.Close(one.fd)
	}
	s.all, s.over = nil, true
}

// Lent is how many sockets one message takes.
const Lent = 4

// lend gives the switch the sockets that there are, for the list of ports that is asked for next.
func (c *Cable) lend() error {
	for places := range slices.Chunk(c.sockets.places(), Lent) {
		err := c.sockets.with(places, func(places, fds []int) error {
			return c.conn.SendNumbers(Request{Op: OpLend, Lent: places}, fds...)
		})
		if _, err := c.answer(err); err != nil {
			return err
		}
	}
	return nil
}
