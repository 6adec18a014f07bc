package netswitch

// The sockets of published ports: our own, and those that a monitor lends.

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
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
	for i, p := range ports {
		socket := g.lent[i]
		if socket == nil {
			socket, err = plug.Bind(p)
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
