package stage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/plain"
)

// maxMessage is the largest message in bytes; maxFiles the most descriptors beside one.
const (
	maxMessage = 128 << 10
	maxFiles   = 4
)

// Conn is one end of a control connection.
type Conn struct{ file *os.File }

// NewConn makes a Conn of a connected SOCK_SEQPACKET socket, which it owns from then on.
func NewConn(fd int) (*Conn, error) {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("cannot use the control connection: %w", err)
	}
	return &Conn{os.NewFile(uintptr(fd), "control")}, nil
}

// Pair makes a connection: one end as a Conn, the other to hand to a child.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a control connection: %w", err)
	}
	c, err := NewConn(fds[0])
	return c, os.NewFile(uintptr(fds[1]), "control"), err
}

// longest is how many bytes the path of a socket may have (unix(7), sun_path without its end).
const longest = 107

// address is a socket's path in as few bytes as the kernel takes: a longer one is named by a descriptor of its directory, which done closes.
func address(path string) (at *unix.SockaddrUnix, done func(), err error) {
	if len(path) <= longest {
		return &unix.SockaddrUnix{Name: path}, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	name := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path)
	return &unix.SockaddrUnix{Name: name}, func() { unix.Close(dir) }, nil
}

// Dial connects to a monitor's socket.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the container's monitor: %w", err)
	}
	at, done, err := address(path)
	if err == nil {
		err = unix.Connect(fd, at)
		done()
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot reach the container's monitor: %w", err)
	}
	return NewConn(fd)
}

// Listener accepts control connections.
type Listener struct{ file *os.File }

// Listen makes a monitor's socket; only its owner can connect.
func Listen(path string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make the control socket: %w", err)
	}
	at, done, err := address(path)
	if err == nil {
		err = unix.Bind(fd, at)
		if errors.Is(err, unix.EADDRINUSE) {
			// Of a monitor that was killed: we hold its lock now.
			if err = os.Remove(path); err == nil {
				err = unix.Bind(fd, at)
			}
		}
		done()
	}
	if err == nil {
		err = unix.Chmod(path, 0o600)
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make the control socket %s: %w", path, err)
	}
	return &Listener{os.NewFile(uintptr(fd), path)}, nil
}

// Accept waits for a connection of the same user or of root (unix(7), SO_PEERCRED); others are dropped.
func (l *Listener) Accept() (*Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		var fd int
		var acceptErr error
		if err := raw.Read(func(s uintptr) bool {
			fd, _, acceptErr = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return acceptErr != unix.EAGAIN && acceptErr != unix.EINTR
		}); err != nil {
			return nil, err
		}
		if acceptErr != nil {
			return nil, acceptErr
		}
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		// Inside the user namespace the user is uid 0, and so is whoever has our uid.
		if err != nil || int(cred.Uid) != os.Getuid() {
			unix.Close(fd)
			continue
		}
		return NewConn(fd)
	}
}

// Close stops accepting.
func (l *Listener) Close() error { return l.file.Close() }

// Send sends a message with descriptors.
func (c *Conn) Send(v any, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = fdOf(f)
	}
	return c.SendNumbers(v, fds...)
}

// SendNumbers is Send for descriptors that are no files.
func (c *Conn) SendNumbers(v any, fds ...int) error {
	data, err := plain.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot send to the other side: %w", err)
	}
	if len(data) > maxMessage {
		return fmt.Errorf("cannot send to the container's monitor: %d bytes are more than the %d that one request may have (shorten the command or its environment)", len(data), maxMessage)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	if err := raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendmsg(int(fd), data, oob, nil, unix.MSG_NOSIGNAL)
		return sendErr != unix.EAGAIN && sendErr != unix.EINTR
	}); err != nil {
		return err
	}
	return sendErr
}

// fdOf is a file's descriptor without the change to blocking mode that Fd makes.
func fdOf(f *os.File) (n int) {
	n = -1
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n = int(fd) }) // it fails only when f is closed, and then -1 is refused
	}
	return n
}

// ErrDescriptors says that a message was read, but none of its descriptors: there are more than a message may have, or than the process may.
var ErrDescriptors = errors.New("cannot read a message: it has too many descriptors")

// Receive reads a message into v, and its descriptors; io.EOF when the other side has closed. Oversized and malformed messages are errors.
func (c *Conn) Receive(v any) ([]*os.File, error) {
	fds, err := c.ReceiveNumbers(v)
	var files []*os.File
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	return files, err
}

// ReceiveNumbers is Receive for whoever keeps descriptors without using them: the runtime watches a file whose descriptor does not block, and would hear of each event of it.
func (c *Conn) ReceiveNumbers(v any) ([]int, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	var n, oobn, flags int
	var recvErr error
	// Look at the size first: most messages are small, and a packet that does not fit is cut.
	if err := raw.Read(func(fd uintptr) bool {
		n, _, _, _, recvErr = unix.Recvmsg(int(fd), buf[:1], nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		return recvErr != unix.EAGAIN && recvErr != unix.EINTR
	}); err != nil {
		return nil, io.EOF
	}
	if recvErr != nil {
		return nil, recvErr
	}
	if n > maxMessage {
		return nil, fmt.Errorf("cannot read a message of %d bytes: the limit is %d", n, maxMessage)
	}
	if n > len(buf) {
		buf = make([]byte, n)
	}
	if err := raw.Read(func(fd uintptr) bool {
		n, oobn, flags, _, recvErr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return recvErr != unix.EAGAIN && recvErr != unix.EINTR
	}); err != nil {
		return nil, io.EOF
	}
	if recvErr != nil {
		if errors.Is(recvErr, unix.ECONNRESET) {
			return nil, io.EOF
		}
		return nil, recvErr
	}
	fds := rights(oob[:oobn])
	switch {
	case n == 0:
		err = io.EOF
	case flags&unix.MSG_TRUNC != 0:
		err = errors.New("cannot read a message: it is too large")
	default:
		if err = plain.Unmarshal(buf[:n], v); err != nil {
			err = fmt.Errorf("cannot read a message: %w", err)
		} else if flags&unix.MSG_CTRUNC != 0 {
			err = ErrDescriptors
		}
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, err
	}
	return fds, nil
}

func rights(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if some, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, some...)
		}
	}
	return fds
}

// Close ends the conversation.
func (c *Conn) Close() error { return c.file.Close() }
