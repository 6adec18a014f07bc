package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// tcpPair is a connection over the loopback: both ends.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a socket
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() }) // mostly closed already
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what a pool has is let go with the second one
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Who does not read makes the kernel keep what was sent, not us: a container could have thousands of such connections. Nothing is lost of it either.
func TestSlowReadersHoldLittle(t *testing.T) {
	const links, each = 40, 8 << 20
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i * 7 / 5)
	}
	var readers []*net.TCPConn
	var sent []int
	before := heap()
	for range links {
		writer, in := tcpPair(t)
		out, reader := tcpPair(t)
		for _, c := range []*net.TCPConn{in, out, reader} {
			if err := errors.Join(c.SetReadBuffer(64<<10), c.SetWriteBuffer(64<<10)); err != nil {
				t.Fatal(err)
			}
		}
		go Join(in, out)
		total := 0
		for total < each {
			if err := writer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			at := total % len(piece)
			n, err := writer.Write(piece[at:])
			total += n
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := writer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		readers, sent = append(readers, reader), append(sent, total)
	}
	if held := (int64(heap()) - int64(before)) / links; held > 64<<10 {
		t.Errorf("a connection whose reader does not read holds %d bytes", held)
	}
	for i, reader := range readers {
		got, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != sent[i] {
			t.Fatalf("%d bytes arrived of %d", len(got), sent[i])
		}
		for at := 0; at < len(got); at += len(piece) {
			if part := got[at:min(at+len(piece), len(got))]; !bytes.Equal(part, piece[:len(part)]) {
				t.Fatalf("what arrived from %d on is not what was sent", at)
			}
		}
	}
}
