package ops

// This file is --mount=type=ssh: a socket of the command's own whose connections go to the user's agent. The agent's socket itself would let in neither a command that is not root nor, with any
// agent that asks who connects (ssh-agent does), one whose user is not ours.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"
)

// ssh makes the socket, with the owner and mode that are asked for, and binds it.
func (m *mounts) ssh(mount *pb.Mount) error {
	o := mount.SSHOpt
	id := o.ID
	if id == "" {
		id = "default"
	}
	agent, ok := m.op.env.SSH[id]
	if !ok {
		if o.Optional {
			return nil
		}
		return fmt.Errorf("cannot find the ssh agent %q: give it with --ssh %s[=SOCKET]", id, id)
	}
	dir, err := m.memory()
	if err != nil {
		return err
	}
	defer dir.Close() // nothing is buffered
	l, err := serveAgent(dir, agent)
	if err == nil {
		m.ends = append(m.ends, l.Close)
		err = errors.Join(
			unix.Fchownat(int(dir.Fd()), "agent", int(o.Uid), int(o.Gid), 0),
			unix.Fchmodat(int(dir.Fd()), "agent", o.Mode&0o777, 0),
		)
	}
	if err != nil {
		return fmt.Errorf("cannot make the socket of ssh agent %q: %w", id, err)
	}
	return m.attach(dir, "agent", mount.Dest, false)
}

// serveAgent listens at dir/agent until it is closed, and connects whoever comes with the socket agent.
func serveAgent(dir *os.File, agent string) (*net.UnixListener, error) {
	// A socket's path has 108 bytes.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/agent"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it goes with its file system
	go func() {
		for {
			from, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go forward(from, agent)
		}
	}()
	return l, nil
}

// forward copies both ways until both sides have ended. When the agent cannot be reached the connection ends, which is what a client of a dead agent sees.
func forward(from *net.UnixConn, agent string) {
	defer from.Close() //nolint:errcheck // what was written has been read, or nobody is there to
	to, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: agent})
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // likewise
	var both sync.WaitGroup
	for _, way := range [][2]*net.UnixConn{{from, to}, {to, from}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // the other side has gone
			_ = way[1].CloseWrite()        // likewise
		})
	}
	both.Wait()
}
