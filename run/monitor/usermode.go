package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
)

// The user-mode networks of other rootless tools: a program per container, which is the monitor's child and ends with it. They are started as they are: the drivers of rootlesskit
// are made for a parent that stays outside the user namespace, which a monitor does not.

// helperPatience is how long a helper may take until the network is there.
const helperPatience = 10 * time.Second

// userMode is a container's helper.
type userMode struct {
	name    string
	options []string
	ports   []plug.Port
	cidr    netip.Prefix // of slirp4netns
	dir     string       // the container's runtime directory
	cmd     *exec.Cmd
	ended   chan error // closed when it has ended
	stop    *os.File   // closing it ends slirp4netns
	said    words      // what the helper prints
	bound   string     // where the network namespace is for pasta
}

// CheckUserMode says whether a helper is there and understands its options.
func CheckUserMode(name string, options []string) error {
	if _, err := exec.LookPath(name); err != nil {
		pack := name
		if name == config.Pasta {
			pack = "passt"
		}
		return fmt.Errorf("cannot use --network %s: the program %s is not installed (Debian's package %s); the default network, bridge, needs no program", name, name, pack)
	}
	u := &userMode{name: name, options: options}
	if name == config.Pasta {
		_, err := u.pastaArgs("", "")
		return err
	}
	_, err := u.slirpArgs("0")
	return err
}

// openUserMode reads what is asked for; nil when another kind of network is.
func (m *monitor) openUserMode(img *image.Image) (*userMode, error) {
	c := &m.record.Config
	name, options := c.UserMode()
	if name == "" {
		return nil, nil
	}
	u := &userMode{name: name, options: options, dir: m.store.RunDir(m.record.ID)}
	_, err := u.slirpArgs("0")
	if name == config.Slirp && err != nil {
		return nil, err
	}
	if u.ports, err = ports(allPorts(c, img)); err == nil {
		err = u.reserve()
	}
	return u, err
}

// reserve finds out whether the ports can be had, and chooses those that may be any or of a range: helpers say little about one that they do not get. They bind them themselves, a moment later.
func (u *userMode) reserve() error {
	var held []*os.File
	defer func() { closeAll(held) }()
	for i := range u.ports {
		p := &u.ports[i]
		socket, err := plug.Bind(*p)
		if errors.Is(err, unix.EACCES) {
			return &plug.Refusal{
				Text: fmt.Sprintf("cannot publish port %s with %s: ports below 1024 are not for programs without CAP_NET_BIND_SERVICE on the host", p.Title(), u.name),
				Hint: fmt.Sprintf("publish a higher one, or let users have it: `sudo sysctl net.ipv4.ip_unprivileged_port_start=%d`; on the default network, bridge, root's containers have them", p.Host),
			}
		}
		if err != nil {
			return err
		}
		held = append(held, socket)
		if p.Host, err = portOf(socket); err != nil {
			return err
		}
		p.HostEnd = 0
	}
	return nil
}

// portOf is the port of a socket.
func portOf(socket *os.File) (uint16, error) {
	own, err := unix.Getsockname(int(socket.Fd()))
	switch at := own.(type) {
	case *unix.SockaddrInet4:
		return uint16(at.Port), nil
	case *unix.SockaddrInet6:
		return uint16(at.Port), nil
	}
	return 0, fmt.Errorf("cannot find a free port: %w", err)
}

// connect starts the helper for the network namespace of process pid, and waits until the network is there. It runs on the thread that stays, since the helper dies with it.
func (u *userMode) connect(pid int) error {
	if u.name == config.Pasta {
		return u.connectPasta(pid)
	}
	return u.connectSlirp(pid)
}

// start starts the helper with files from descriptor 3 on.
func (u *userMode) start(args []string, files ...*os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	u.cmd = exec.CommandContext(context.Background(), u.name, args...) // close ends it
	u.cmd.Stdout, u.cmd.Stderr, u.cmd.ExtraFiles = w, w, files
	u.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := u.cmd.Start(); err != nil {
		r.Close()
		return fmt.Errorf("cannot start %s: %w", u.name, err)
	}
	u.ended = make(chan error, 1)
	go func() { u.ended <- u.cmd.Wait(); close(u.ended) }()
	u.said.listen(r)
	return nil
}

// words are what a helper prints, for as long as it lives: one that nobody listens to would stand still at the first full pipe. The first ones are kept.
type words struct {
	mu   sync.Mutex
	text []byte
	end  chan struct{} // closed when the helper has closed its end
}

// maxWords is how much of them is kept, in bytes.
const maxWords = 4096

func (w *words) listen(from *os.File) {
	w.end = make(chan struct{})
	go func() {
		defer close(w.end)
		defer from.Close()
		buf := make([]byte, 512)
		for {
			n, err := from.Read(buf)
			w.mu.Lock()
			w.text = append(w.text, buf[:min(n, maxWords-len(w.text))]...)
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

// lines are those that say something.
func (w *words) lines() (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(string(w.text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, " to syslog") {
			lines = append(lines, line)
		}
	}
	return lines
}

// failed is why the helper did not come up, in its own words: pasta says it first, and then perhaps how it is used; slirp4netns says it last.
func (u *userMode) failed(err error) error {
	_ = u.cmd.Process.Kill() // it may have ended
	select {
	case <-u.said.end:
	case <-time.After(time.Second):
	}
	if lines := u.said.lines(); len(lines) > 0 {
		text := lines[len(lines)-1]
		if u.name == config.Pasta {
			text = strings.TrimPrefix(lines[0], "pasta: ")
		}
		err = errors.New(text)
	}
	return &plug.Refusal{Text: fmt.Sprintf("cannot connect the container with %s: %v", u.name, err), Hint: "the default network, bridge, needs no program"}
}

// resolver is the name server in the container's network.
func (u *userMode) resolver() []string {
	if u.name == config.Pasta {
		return []string{pastaResolver}
	}
	return []string{u.host(slirpResolver).String()}
}

// close ends the helper.
func (u *userMode) close() {
	if u == nil || u.cmd == nil || u.cmd.Process == nil {
		return
	}
	if u.stop != nil {
		u.stop.Close()
	}
	_ = u.cmd.Process.Kill() // it may have ended
	<-u.ended                // its ports are free then
	if u.bound != "" {
		_ = unix.Unmount(u.bound, unix.MNT_DETACH) // it goes with our mount namespace
	}
}
