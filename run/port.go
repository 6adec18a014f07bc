package run

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/plug"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
)

// port answers who asks for the socket of a port below 1024: the front makes it when it has CAP_NET_BIND_SERVICE in the user namespace to which the host's network belongs, as root has
// mostly and a program may by its file. Whether it has, the kernel says.
func port(asked config.Port) (stage.Request, []*os.File) {
	back := stage.Request{Op: stage.OpPort}
	p := plug.Port{Host: asked.Host, HostEnd: asked.HostEnd, Container: asked.Container, Protocol: asked.Protocol}
	if asked.HostIP != "" {
		var err error
		if p.IP, err = netip.ParseAddr(asked.HostIP); err != nil {
			back.Error = fmt.Sprintf("cannot publish a port at %q: %v", asked.HostIP, err)
			return back, nil
		}
	}
	socket, err := plug.Bind(p)
	switch {
	case err == nil:
		back.Given = true
		return back, []*os.File{socket}
	case errors.Is(err, unix.EACCES) && os.Geteuid() != 0:
		// What the switch has said is right.
	case errors.Is(err, unix.EACCES):
		back.Error = fmt.Sprintf("cannot publish port %s: ports below 1024 need CAP_NET_BIND_SERVICE, which this root does not have in the host's network namespace", p.Title())
		back.Hint = fmt.Sprintf("publish a higher one, give skiff the capability, or let all users have it: `sysctl net.ipv4.ip_unprivileged_port_start=%d`", p.Host)
	default:
		back.Error = err.Error()
		back.Hint = hintOf(err)
	}
	return back, nil
}
