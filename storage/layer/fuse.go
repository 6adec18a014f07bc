package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mountFuse starts fuse-overlayfs in the foreground as our child and waits until its mount appears at Target. It dies with the thread that called, so callers are locked to
// a thread that lives as long as the mount should.
func mountFuse(ctx context.Context, o Options) (*Mounted, error) {
	path, err := exec.LookPath("fuse-overlayfs")
	if err != nil {
		return nil, errors.New("cannot mount with fuse-overlayfs: it is not installed; `sudo apt install fuse-overlayfs`")
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot mount with fuse-overlayfs: /dev/fuse: %w; it must exist and be writable (`sudo modprobe fuse && sudo chmod 666 /dev/fuse`)", err)
	}
	unix.Close(fd)
	var before unix.Stat_t
	if err := unix.Stat(o.Target, &before); err != nil {
		return nil, fmt.Errorf("cannot mount with fuse-overlayfs: %w", err)
	}
	if strings.Contains(o.Dir, ":") {
		return nil, fmt.Errorf("cannot mount with fuse-overlayfs: it takes no path with a colon, which %s has; put the data directory elsewhere (--root)", o.Dir)
	}
	data, err := linked(o)
	if err != nil {
		return nil, fmt.Errorf("cannot mount with fuse-overlayfs: %w", err)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, "-f", "-o", data, o.Target)
	cmd.Dir = o.Dir // the names are short, and have no commas and backslashes of the data directory's path
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start fuse-overlayfs: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m := &Mounted{Helper: cmd.Process, ended: ended, target: o.Target}
	for {
		var now unix.Stat_t
		if err := unix.Stat(o.Target, &now); err == nil && now.Dev != before.Dev {
			break
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("cannot mount with fuse-overlayfs: %w: %s", err, strings.TrimSpace(output.String()))
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), m.kill())
		case <-time.After(time.Millisecond):
		}
	}
	root, err := os.OpenFile(o.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the layer: %w", err), m.unmount())
	}
	m.Root = root
	return m, nil
}

// goodbye is how long fuse-overlayfs may take to write down what it holds once its mount is gone.
const goodbye = 10 * time.Second

// unmount takes the mount away, upon which fuse-overlayfs ends, and waits for that: until then it writes to the upper directory.
func (m *Mounted) unmount() error {
	if err := unix.Unmount(m.target, unix.MNT_DETACH); err != nil {
		return errors.Join(err, m.kill())
	}
	select {
	case <-m.ended: // what it says of its end is of no use: what it wrote is what counts
		return nil
	case <-time.After(goodbye):
		return errors.Join(fmt.Errorf("fuse-overlayfs (pid %d) did not end within %v and was killed", m.Helper.Pid, goodbye), m.kill())
	}
}

func (m *Mounted) kill() error {
	err := m.Helper.Kill()
	<-m.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
