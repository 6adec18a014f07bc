package tests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdPty runs a command on a terminal of 24 rows and 80 columns and plays a file of steps: pty FILE COMMAND [ARG...]. The steps:
//
//	expect REGEXP    waits until the output since the last match matches
//	send "TEXT"      types; Go's escapes
//	resize ROWS COLS changes the window's size
//	sleep MS
//	signal NUMBER    to the command
//	code N           waits for the command's end and wants this exit code (0 when the step is missing)
func cmdPty(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: pty FILE COMMAND [ARG...]")
	}
	steps := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	program, err := findProgram(ts, args[1])
	ts.Check(err)
	master, slave, err := openPty()
	ts.Check(err)
	defer func() { _ = master.Close() }()
	ts.Check(resize(master, 24, 80))
	cmd := exec.Command(program, args[2:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), environment(ts)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	_ = slave.Close()
	s := &screen{more: make(chan struct{}, 1)}
	go s.read(master)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	if steps[len(steps)-1] == "" || !strings.HasPrefix(steps[len(steps)-1], "code ") {
		steps = append(steps, "code 0")
	}
	for _, step := range steps {
		if err := play(step, master, cmd, s, ended); err != nil {
			ts.Fatalf("%s: %v\nthe terminal shows:\n%s", step, err, s.all())
		}
	}
}

func play(step string, master *os.File, cmd *exec.Cmd, s *screen, ended chan error) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(step), " ")
	var a, b int
	switch word {
	case "", "#":
		return nil
	case "expect":
		re, err := regexp.Compile("(?m)" + rest)
		if err != nil {
			return err
		}
		return s.expect(re)
	case "send":
		text, err := strconv.Unquote(rest)
		if err != nil {
			return err
		}
		_, err = master.WriteString(text)
		return err
	case "resize":
		if _, err := fmt.Sscan(rest, &a, &b); err != nil {
			return err
		}
		return resize(master, a, b)
	case "sleep":
		if _, err := fmt.Sscan(rest, &a); err != nil {
			return err
		}
		time.Sleep(time.Duration(a) * time.Millisecond)
		return nil
	case "signal":
		if _, err := fmt.Sscan(rest, &a); err != nil {
			return err
		}
		return cmd.Process.Signal(syscall.Signal(a))
	case "code":
		if _, err := fmt.Sscan(rest, &a); err != nil {
			return err
		}
		select {
		case err := <-ended:
			if got := exitCode(err); got != a {
				return fmt.Errorf("exit code %d", got)
			}
			return nil
		case <-time.After(15 * time.Second):
			return errors.New("the command has not ended after 15 seconds")
		}
	}
	return fmt.Errorf("unknown step %q", word)
}

func openPty() (master, slave *os.File, err error) {
	// Not blocking, so that closing it ends the reader.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open /dev/ptmx: %w", err)
	}
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), slave, nil
}

func resize(master *os.File, rows, columns int) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)})
	})
	return errors.Join(err, set)
}

// screen is what a terminal has shown.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
	seen int // where the last match ended
	more chan struct{}
}

func (s *screen) read(master *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (s *screen) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) expect(re *regexp.Regexp) error {
	timeout := time.After(10 * time.Second)
	for {
		text := s.all()
		if at := re.FindStringIndex(text[s.seen:]); at != nil {
			s.seen += at[1]
			return nil
		}
		select {
		case <-s.more:
		case <-timeout:
			return errors.New("not seen in ten seconds")
		}
	}
}
