package fork

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

func run(t *testing.T, p *Program, c *Channel) (*Child, error) {
	t.Helper()
	child, err := Start(p, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Channel.Close(); child.PidFD.Close() })
	_, err = child.Report()
	return child, err
}

func wait(t *testing.T, c *Child) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.Pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestExec(t *testing.T) {
	for _, tt := range []struct {
		name  string
		paths []string
		errno unix.Errno
	}{
		{"runs", []string{"/bin/true"}, 0},
		{"second candidate", []string{"/no/true", "/bin/true"}, 0},
		{"missing", []string{"/no/true", "/none/true"}, unix.ENOENT},
		{"not executable wins", []string{"/etc/passwd", "/none/true"}, unix.EACCES},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewChannel()
			if err != nil {
				t.Fatal(err)
			}
			p := &Program{}
			argv, envv := p.Strings([]string{"true"}), p.Strings(nil)
			for _, path := range tt.paths {
				p.Exec(path, argv, envv)
			}
			child, err := run(t, p, c)
			status := wait(t, child)
			if tt.errno != 0 {
				if !errors.Is(err, tt.errno) {
					t.Fatalf("got %v, want %v", err, tt.errno)
				}
				return
			}
			if !errors.Is(err, io.EOF) || status.ExitStatus() != 0 {
				t.Fatalf("got %v, status %d", err, status.ExitStatus())
			}
		})
	}
}

func TestFailingStepIsNamed(t *testing.T) {
	c, err := NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{}
	p.Call("make a directory", unix.SYS_MKDIRAT, Cwd(), p.Str("/proc/none"), Int(0o755))
	child, err := run(t, p, c)
	wait(t, child)
	var fe *Error
	if !errors.As(err, &fe) || fe.What != "make a directory" || fe.Errno != unix.ENOENT {
		t.Fatalf("got %v", err)
	}
}

func TestSkips(t *testing.T) {
	c, err := NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{}
	fd := p.Slot()
	p.Call("open", unix.SYS_OPENAT, Cwd(), p.Str("/none"), Int(unix.O_RDONLY)).Allow(unix.ENOENT).SkipOnError(1)
	p.Call("must be skipped", unix.SYS_CLOSE, Int(-1))
	p.Call("open", unix.SYS_OPENAT, Cwd(), p.Str("/dev/null"), Int(unix.O_RDONLY|unix.O_CLOEXEC)).To(fd).SkipOnSuccess(1)
	p.Call("must be skipped too", unix.SYS_CLOSE, Int(-1))
	p.Call("move", unix.SYS_DUP3, fd.Value(), Int(0), Int(0))
	p.Exec("/bin/cat", p.Strings([]string{"cat"}), p.Strings(nil))
	child, err := run(t, p, c)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if ws := wait(t, child); ws.ExitStatus() != 0 {
		t.Fatalf("cat of /dev/null ended with %v", ws)
	}
}

func TestInitReapsAndPassesOnTheStatus(t *testing.T) {
	c, err := NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{}
	p.Init("init")
	p.Exec("/bin/sh", p.Strings([]string{"sh", "-c", "trap 'exit 7' TERM; kill -TERM $PPID; while :; do sleep 0.1; done"}), p.Strings([]string{"PATH=/bin:/usr/bin"}))
	child, err := run(t, p, c)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if ws := wait(t, child); ws.ExitStatus() != 7 {
		t.Fatalf("got %v, want exit 7 (the signal sent to init, passed on)", ws.ExitStatus())
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		c, _ := NewChannel()
		p := &Program{}
		p.Exec("/bin/true", p.Strings([]string{"true"}), p.Strings(nil))
		child, err := Start(p, c, Options{})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = child.Report() // its end
		child.Channel.Close()
		child.PidFD.Close()
		_, _ = unix.Wait4(child.Pid, nil, 0, nil)
	}
}

// A child that waits for a word hears that nobody is left to say it.
func TestChildHearsTheEnd(t *testing.T) {
	c, err := NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{}
	p.Call("wait", unix.SYS_READ, c.Child(), p.Bytes(make([]byte, 8)), Int(8)).AtLeast(1)
	child, err := Start(p, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer child.PidFD.Close()
	if err := child.Channel.Close(); err != nil {
		t.Fatal(err)
	}
	poll := []unix.PollFd{{Fd: int32(child.PidFD.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 10_000); err != nil || n != 1 {
		_ = unix.Kill(child.Pid, unix.SIGKILL)
		wait(t, child)
		t.Fatalf("it waits for ever: %d, %v", n, err)
	}
	wait(t, child)
}
