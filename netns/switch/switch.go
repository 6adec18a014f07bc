// Package netswitch is the process that serves a user's bridge networks: one Linux bridge per network in a network namespace of its own, a veth pair to each
// container, isolation by nftables, names, published ports, and the way out through the user's own sockets. It starts with the first container that
// needs it and goes soon after the last. What is known of networks and addresses is in files (package netns); what a container has, its monitor asks for again
// when the switch was killed, so nothing is lost with it.
//
// It is a program of its own beside the engine (main_switch.go), which is small and starts soon; where that is not installed, a life of the engine. It is a member of the user's user namespace; its own network namespace is the host's, where its sockets towards the world are.
package netswitch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns"
	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/netns/switch/relay"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage/disk"
)

// Descriptors that a switch is started with.
const (
	readyFD = 3
	spaceFD = 4
)

// grace is how long a switch outlives its last container, unless plug.GraceVariable says otherwise: the next one often comes soon.
const grace = 5 * time.Second

// welcome is how long a new switch waits for its first container.
const welcome = 5 * time.Second

// hub is the running switch.
type hub struct {
	dir   string
	alive *disk.Lock // says that there is a switch, and that it is a member of the user namespace
	store *netns.Store
	view  *netns.View // the name servers' of it
	space *space
	way   way
	relay *relay.Relay // the way, where it is that

	mu      sync.Mutex
	members int         // open cables
	leave   *time.Timer // runs while there are none
	bridges map[string]*bridge
	gone    chan struct{}
	graves  []grave
	burial  *time.Timer
}

// Main is the life of a process whose argv[0] is stage.Switch: args are the data directory, the runtime directory, and "adopt" when descriptor 4 is the network
// namespace of a switch that was killed. It says on descriptor 3 that it is ready, or why not. It returns the process's exit status.
func Main(args []string) int {
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	debug.SetGCPercent(50)
	setName("skiff-switch")
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE, unix.SIGINT)
	h, listener, err := open(args)
	if errors.Is(err, errNoStack) {
		err = becomeEngine(args)
	}
	text := plug.Ready
	if err != nil {
		text = err.Error()
	}
	_, writeErr := ready.WriteString(text)
	if err = errors.Join(err, writeErr, ready.Close()); err != nil {
		return 125
	}
	go h.accept(listener)
	time.AfterFunc(trimPause, func() {
		trim()
		if h.space.inherited {
			_ = h.space.dropGuards() // rules about nobody; what ended before us has been taken apart by now
		}
	})
	<-h.gone
	return 0
}

// becomeEngine goes on as the engine's switch, which has the stack in it; it returns when that cannot be had. Descriptors are handed on as they came.
func becomeEngine(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	engine := filepath.Join(filepath.Dir(self), plug.EngineName)
	for _, fd := range []uintptr{readyFD, spaceFD} {
		if fd == readyFD || len(args) > 2 {
			if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
				return err
			}
		}
	}
	err = unix.Exec(engine, append([]string{stage.Switch}, args...), append(os.Environ(), plug.UplinkVariable+"="+plug.UplinkStack))
	return fmt.Errorf("%w: cannot execute %s: %w", errNoStack, engine, err)
}

// trimPause is when everything that the start touches has been touched.
const trimPause = 2 * time.Second

// trim gives back the pages of the executable that only its start needed: the engine is a large program of which the switch is a small part. They are read-only
// views of the file; what is used again is found in the page cache.
func trim() {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[5] != self || strings.Contains(f[1], "w") {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED) // an optimisation
		}
	}
}

// setName is what ps(1) shows.
func setName(name string) {
	b := append([]byte(name), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0) // cosmetic
}

// open sets everything up.
func open(args []string) (*hub, *stage.Listener, error) {
	if len(args) < 2 {
		return nil, nil, errors.New("skiff-switch is started by skiff itself")
	}
	data, run := args[0], args[1]
	dir := plug.Dir(run)
	// One before may be on its way out still: it takes no more questions then. Whoever started us waits for so long as it has patience.
	alive, err := disk.WaitLock(filepath.Join(dir, plug.Alive), disk.Exclusive, nil)
	if err != nil {
		return nil, nil, err
	}
	leaveMounts(data)
	var adopted *os.File
	if len(args) > 2 {
		unix.CloseOnExec(spaceFD)
		adopted = os.NewFile(spaceFD, "network namespace")
	}
	sp, err := newSpace(adopted)
	if err != nil {
		return nil, nil, err
	}
	store := netns.Open(data, run)
	h := &hub{dir: dir, alive: alive, store: store, view: netns.NewView(store), space: sp, bridges: map[string]*bridge{}, gone: make(chan struct{})}
	if err := h.setUp(); err != nil {
		return nil, nil, err
	}
	if err := h.announce(dir); err != nil {
		return nil, nil, err
	}
	listener, err := stage.Listen(filepath.Join(dir, plug.Sock))
	if err != nil {
		return nil, nil, err
	}
	h.leave = time.AfterFunc(max(h.patience(), welcome), h.quit) // whoever started us is to find us
	return h, listener, nil
}

// announce makes the process findable as a member of the user namespace (run/userns).
func (h *hub) announce(dir string) error {
	ns, err := userns.Own()
	if err != nil {
		return err
	}
	if err := disk.WriteFile(netns.SpaceFile(filepath.Dir(dir)), fmt.Appendf(nil, `{"pid":%d,"tid":%d}`, os.Getpid(), h.space.tid), 0o600, disk.Volatile); err != nil {
		return err
	}
	return disk.WriteFile(filepath.Join(dir, plug.Pid), fmt.Appendf(nil, `{"pid":%d,"userns":%d}`, os.Getpid(), ns), 0o600, disk.Volatile)
}

// leaveMounts unmounts what the monitor that started us had mounted: a switch outlives it.
func leaveMounts(data string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], data+"/") {
			_ = unix.Unmount(f[4], unix.MNT_DETACH) // with another one below it
		}
	}
}

// setUp makes the namespace's furniture: forwarding, the uplink, the rules.
func (h *hub) setUp() error {
	err := h.space.do(func() (err error) {
		for file, value := range map[string]string{
			"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
			// Containers' addresses come in over bridges only, and the rules below say which; reverse path filters would drop marked answers.
			"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/conf/all/route_localnet": "0",
			// What a bridge forwards is the bridge's business, also where the module br_netfilter is loaded: the rules are about what is routed.
			"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0", "bridge/bridge-nf-call-arptables": "0",
		} {
			if err := sysctl(file, value); err != nil && !errors.Is(err, os.ErrNotExist) { // without IPv6 there is none of its files
				return err
			}
		}
		// Connections that have ended are not remembered (TIME_WAIT): nothing is late on a cable, and a container's next connection from the same port would be taken for the one before. Nor do the
		// gateway's ports run out, of which each client of the host's loopback gets one.
		_ = sysctl("ipv4/tcp_max_tw_buckets", "0") // where it may not be set there is waiting
		return h.space.loopback()
	})
	if err != nil {
		return err
	}
	h.way, h.relay, err = h.space.open()
	return err
}

// patience is how long the switch stays without containers.
func (h *hub) patience() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(plug.GraceVariable)); err == nil && d >= 0 {
		return d
	}
	return grace
}

// enter and exit count open cables.
func (h *hub) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.members == 0 && !h.leave.Stop() {
		return false // leaving already
	}
	h.members++
	return true
}

func (h *hub) exit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.members--; h.members == 0 {
		h.leave.Reset(h.patience())
	}
}

// quit ends the process. Whoever comes meanwhile is refused and starts another one, which waits for our lock.
func (h *hub) quit() {
	_ = os.Remove(filepath.Join(h.dir, plug.Sock)) // or they would ask us again
	close(h.gone)
}

// accept takes cables.
func (h *hub) accept(l *stage.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if !h.enter() {
			conn.Close()
			continue
		}
		go func() {
			defer h.exit()
			h.serve(context.Background(), conn)
		}()
	}
}
