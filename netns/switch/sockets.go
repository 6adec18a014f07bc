package netswitch

// The sockets of published ports: those that are made here, which the monitor is handed, and those that it lends.

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/stage"
)

// denied says that ports are not ours to bind, and which: the user namespace that we are in has no rights in the host's network namespace.
type denied struct {
	error  // about the first of them
	places []int
}

func (d *denied) Unwrap() error { return d.error }

// borrow takes sockets of ports, until attach uses them. It returns the files that are nobody's.
func (g *guest) borrow(places []int, files []*os.File) ([]*os.File, error) {
	if len(places) != len(files) || g.container != nil {
		return files, errors.New("cannot take sockets of ports: one for each, before the container is connected")
	}
	if g.lent == nil {
		g.lent = map[int]*os.File{}
	}
	for i, place := range places {
		if before := g.lent[place]; before != nil {
			before.Close()
		}
		g.lent[place] = files[i]
	}
	return nil, nil
}

// bind makes the sockets of single ports, but for those that were lent: all or none.
func (g *guest) bind(ports []plug.Port) (sockets []*os.File, err error) {
	var no *denied
	g.made = nil
	for i, p := range ports {
		socket := g.lent[i]
		if socket == nil {
			socket, err = plug.Bind(p)
			g.made = append(g.made, i)
		} else {
			delete(g.lent, i)
			err = plug.Resume(p, socket)
		}
		if socket != nil {
			sockets = append(sockets, socket)
		}
		switch {
		case errors.Is(err, unix.EACCES):
			if no == nil {
				no = &denied{error: err}
			}
			no.places = append(no.places, i)
		case err != nil:
			shut(sockets)
			return nil, few(err, i)
		}
	}
	if no != nil {
		shut(sockets)
		return nil, no
	}
	return sockets, nil
}

// handPause is how long after its start a container's monitor gets the sockets of its ports: the start waits for nothing, and a container that lives shorter than that costs nothing.
const handPause = 50 * time.Millisecond

// hand gives the monitor as many of the sockets that were made here: it keeps the ports when we are killed.
func (g *guest) hand(conn *stage.Conn, most int) {
	for places := range slices.Chunk(g.made[:min(most, len(g.made))], plug.Lent) {
		if !g.handSome(conn, places) {
			return
		}
	}
}

// handSome is one message; false when there is to be no other one.
func (g *guest) handSome(conn *stage.Conn, places []int) bool {
	g.handing.Lock()
	defer g.handing.Unlock()
	if g.retired {
		return false
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, i := range places {
		fd, err := g.ports[i].descriptor()
		if err != nil {
			return false
		}
		fds = append(fds, fd)
	}
	return conn.SendNumbers(plug.Reply{Kept: places}, fds...) == nil
}

// retire has nobody come to the ports any more: what has come goes on until the container leaves. No socket is on its way to the monitor when it returns.
func (g *guest) retire() {
	g.handing.Lock()
	defer g.handing.Unlock()
	g.retired = true
	for _, p := range g.ports {
		_ = p.listen.Close() // whoever accepts hears of it
	}
}

// few says how many ports there are descriptors for, when that is why there is none for the next one.
func few(err error, n int) error {
	if !errors.Is(err, unix.EMFILE) {
		return err
	}
	return &refused{fmt.Sprintf("cannot publish more than %d ports: the switch has no more descriptors", n), "publish fewer, raise the limit (`ulimit -n`), or use --network host", err}
}

func shut(sockets []*os.File) {
	for _, f := range sockets {
		f.Close()
	}
}
