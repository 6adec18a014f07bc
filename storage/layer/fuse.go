package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	if fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("cannot mount with fuse-overlayfs: /dev/fuse: %w; it must exist and be writable (`sudo modprobe fuse && sudo chmod 666 /dev/fuse`)", err)
	} else {
		unix.Close(fd)
	}
	var before unix.Stat_t
	if err := unix.Stat(o.Target, &before); err != nil {
		return nil, fmt.Errorf("cannot mount with fuse-overlayfs: %w", err)
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, "-f", "-o",
		"lowerdir="+strings.Join(o.Lower, ":")+",upperdir="+o.upper()+",workdir="+o.work(), o.Target)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start fuse-overlayfs: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		var now unix.Stat_t
		if err := unix.Stat(o.Target, &now); err == nil && now.Dev != before.Dev {
			break
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("cannot mount with fuse-overlayfs: %w: %s", err, strings.TrimSpace(output.String()))
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), cmd.Process.Kill())
		case <-time.After(time.Millisecond):
		}
	}
	root, err := os.OpenFile(o.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the layer: %w", err), cmd.Process.Kill())
	}
	return &Mounted{Root: root, target: o.Target}, nil
}

// mountCopy makes a copy of the image's layers, lowest first, with cp(1)'s own care for owners, times, links and attributes, applying whiteouts as overlay would.
func mountCopy(o Options) (*Mounted, error) {
	tree := filepath.Join(o.Dir, "copy")
	if _, err := os.Stat(tree); errors.Is(err, os.ErrNotExist) {
		partial := tree + ".part"
		if err := errors.Join(Delete(partial), os.Mkdir(partial, 0o755)); err != nil {
			return nil, fmt.Errorf("cannot copy the image: %w", err)
		}
		for i := len(o.Lower) - 1; i >= 0; i-- {
			if err := copyLayer(o.Lower[i], partial); err != nil {
				return nil, fmt.Errorf("cannot copy the image: %w", err)
			}
		}
		if err := os.Rename(partial, tree); err != nil {
			return nil, fmt.Errorf("cannot copy the image: %w", err)
		}
	}
	root, err := os.OpenFile(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the layer: %w", err)
	}
	return &Mounted{Root: root}, nil
}
