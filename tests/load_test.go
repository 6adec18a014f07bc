package tests

// A generator of traffic, for the scripts that load networks and for the benchmark: one static program that serves in one place and loads from another, the same for
// every network that is compared.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// loadName is what the test binary is called when it is the generator.
const loadName = "loader"

const loadPatience = 20 * time.Second

// load is the life of the generator. Its first argument is what to do, its second the address (serve: what to listen on); numbers go to stdout, what is wrong to stderr.
func load(args []string) int {
	number := func(i int) int64 {
		if len(args) <= i {
			return 0
		}
		n, err := strconv.ParseInt(args[i], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: loader serve|down|up|wild|connects|drop|rtt|udp ADDRESS [NUMBER...]")
		return 2
	}
	err := fmt.Errorf("nobody knows how to %s", args[0])
	switch args[0] {
	case "serve":
		err = loadServe(args[1])
	case "down", "up", "wild":
		err = loadStream(args[0], args[1], number(2))
	case "connects", "drop":
		err = loadConnects(args[0] == "drop", args[1], number(2), number(3))
	case "rtt":
		err = loadRoundTrips(args[1], number(2))
	case "udp":
		err = loadDatagrams(args[1], number(2), number(3))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fill writes what a stream has at an offset: whatever is lost, doubled or moved by any number of bytes but 2^64 shows.
func fill(b []byte, offset int64) {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(offset+int64(i))*0x9e3779b97f4a7c15)
	}
}

const loadBlock = 128 << 10

// loadPattern is 64 different blocks, made once: the generator is not to be what is measured. A stream repeats them; wild ones are all different.
func loadPattern() [][]byte {
	out := make([][]byte, 64)
	for i := range out {
		out[i] = make([]byte, loadBlock)
		fill(out[i], int64(i)*loadBlock)
	}
	return out
}

// loadServe answers each connection by its first byte and, on the same port, counts datagrams.
func loadServe(at string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	_ = pc.(*net.UDPConn).SetReadBuffer(4 << 20) // as large as the host lets it be
	var received atomic.Int64
	go func() {
		b := make([]byte, 65536)
		for {
			if _, _, err := pc.ReadFrom(b); err == nil {
				received.Add(1)
			}
		}
	}()
	blocks := loadPattern()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()                                     //nolint:errcheck // a socket
			_ = loadAnswer(c.(*net.TCPConn), blocks, &received) // the other side says what is wrong
		}()
	}
}

func loadAnswer(c *net.TCPConn, blocks [][]byte, received *atomic.Int64) error {
	var head [9]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint64(head[1:]))
	switch head[0] {
	case 'd':
		for i := int64(0); i*loadBlock < n; i++ {
			if _, err := c.Write(blocks[i%64][:min(loadBlock, n-i*loadBlock)]); err != nil {
				return err
			}
		}
	case 'u':
		if _, err := io.CopyN(io.Discard, c, n); err != nil {
			return err
		}
		_, err := c.Write([]byte{1})
		return err
	case 'w':
		return loadWild(c, n)
	case 'c':
		return binary.Write(c, binary.BigEndian, received.Swap(0))
	default: // 'e'
		b := make([]byte, 4096)
		for {
			k, err := c.Read(b)
			if err != nil {
				return err
			}
			if _, err := c.Write(b[:k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadWild sends from an offset on, in pieces of any size, stalling now and then, and at a moment of chance resets the connection or ends its own half.
func loadWild(c *net.TCPConn, offset int64) error {
	const step = 8
	b := make([]byte, loadBlock)
	for limit := 1 + rand.Int64N(64<<20); limit > 0; { //nolint:gosec // chance, no secret
		n := (1 + rand.IntN(loadBlock/step)) * step //nolint:gosec // likewise
		fill(b[:n], offset)
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		offset, limit = offset+int64(n), limit-int64(n)
		if rand.IntN(200) == 0 { //nolint:gosec // likewise
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond) //nolint:gosec // the stall
		}
	}
	if rand.IntN(2) == 0 { //nolint:gosec // likewise
		return c.SetLinger(0)
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c) // the other half goes on until the client ends it
	return err
}

func loadDial(at string, what byte, n int64) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", at, loadPatience)
	if err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint64([]byte{what}, uint64(n))
	if _, err = c.Write(head); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.(*net.TCPConn), nil
}

// loadStream moves n bytes one way and prints Mbit/s; wild ones (wild) are fetched in as many connections as the server makes of it.
func loadStream(way, at string, n int64) error {
	began, blocks := time.Now(), loadPattern()
	kinds := map[string]int{}
	switch way {
	case "wild":
		for offset := int64(0); offset < n; {
			got, how, err := loadFetch(at, offset)
			if err != nil {
				return err
			}
			offset, kinds[how] = offset+got, kinds[how]+1
		}
		fmt.Println("whole", kinds)
		return nil
	case "up":
		c, err := loadDial(at, 'u', n)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // a socket
		for i := int64(0); i*loadBlock < n; i++ {
			if _, err = c.Write(blocks[i%64][:min(loadBlock, n-i*loadBlock)]); err != nil {
				return err
			}
		}
		if _, err = io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
	default:
		c, err := loadDial(at, 'd', n)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // a socket
		b := make([]byte, loadBlock)
		for i := int64(0); i*loadBlock < n; i++ {
			part := b[:min(loadBlock, n-i*loadBlock)]
			if _, err = io.ReadFull(c, part); err != nil {
				return err
			}
			if !bytes.Equal(part, blocks[i%64][:len(part)]) {
				return fmt.Errorf("block %d of the stream is another", i)
			}
		}
	}
	fmt.Printf("%.0f\n", float64(n)*8/1e6/time.Since(began).Seconds())
	return nil
}
