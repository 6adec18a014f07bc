package tests

// The generator's small traffic: connections, round trips, datagrams, and what of a wild stream has arrived.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loadFetch reads one wild connection to its end, and says how many bytes of the stream came and how it ended: by a reset or by the end of the server's half.
func loadFetch(at string, offset int64) (got int64, how string, err error) {
	c, err := loadDial(at, 'w', offset)
	if err != nil {
		return 0, "", err
	}
	defer c.Close() //nolint:errcheck // a socket
	in := bufio.NewReaderSize(c, loadBlock)
	have, want := make([]byte, 8), make([]byte, 8)
	for {
		if err = c.SetReadDeadline(time.Now().Add(loadPatience)); err != nil {
			return got, "", err
		}
		_, err = io.ReadFull(in, have)
		switch {
		case errors.Is(err, io.EOF):
			// What is sent against the half that has ended still arrives.
			_, err = c.Write(make([]byte, 1000))
			return got, "halves", err
		case errors.Is(err, unix.ECONNRESET):
			return got, "resets", nil
		case err != nil:
			return got, "", fmt.Errorf("after %d bytes: %w", offset+got, err)
		}
		fill(want, offset+got)
		if !bytes.Equal(have, want) {
			return got, "", fmt.Errorf("at %d the stream has another byte", offset+got)
		}
		got += 8
	}
}

// loadConnects makes n connections, parallel at a time, with an echo on each; it prints how many a second and fails when one is lost. Dropped ones are reset in
// the middle of a download instead.
func loadConnects(drop bool, at string, n, parallel int64) error {
	var next, lost atomic.Int64
	var first atomic.Value
	var all sync.WaitGroup
	began := time.Now()
	for range parallel {
		all.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				if err := loadOne(drop && i%3 != 0, at, i); err != nil {
					lost.Add(1)
					first.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	all.Wait()
	if lost.Load() > 0 {
		return fmt.Errorf("%d of %d connections were lost: %v", lost.Load(), n, first.Load())
	}
	fmt.Printf("%.0f\n", float64(n)/time.Since(began).Seconds())
	return nil
}

func loadOne(drop bool, at string, i int64) error {
	kind := byte('e')
	if drop {
		kind = 'd'
	}
	c, err := loadDial(at, kind, 10<<20)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // a socket
	if err = c.SetDeadline(time.Now().Add(loadPatience)); err != nil {
		return err
	}
	if drop {
		if _, err = io.ReadFull(c, make([]byte, 100)); err != nil {
			return err
		}
		return c.SetLinger(0)
	}
	word := fmt.Appendf(nil, "%08d", i)
	if _, err = c.Write(word); err != nil {
		return err
	}
	back := make([]byte, len(word))
	if _, err = io.ReadFull(c, back); err != nil {
		return err
	}
	if !bytes.Equal(word, back) {
		return fmt.Errorf("%q came back as %q", word, back)
	}
	return nil
}

// loadRoundTrips prints the median of n round trips of a byte, in microseconds.
func loadRoundTrips(at string, n int64) error {
	c, err := loadDial(at, 'e', 0)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // a socket
	took := make([]time.Duration, 0, n)
	b := make([]byte, 1)
	for range n {
		began := time.Now()
		if _, err = c.Write(b); err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	if len(took) == 0 {
		return errors.New("no round trips were asked for")
	}
	slices.Sort(took)
	fmt.Printf("%.1f\n", float64(took[len(took)/2].Nanoseconds())/1000)
	return nil
}

// loadDatagrams sends so many Mbit/s for so many seconds in datagrams of 1400 bytes, and prints how many percent of them the server has not seen.
func loadDatagrams(at string, mbit, seconds int64) error {
	count := func() (n int64, err error) {
		c, err := loadDial(at, 'c', 0)
		if err != nil {
			return 0, err
		}
		defer c.Close() //nolint:errcheck // a socket
		return n, binary.Read(c, binary.BigEndian, &n)
	}
	if _, err := count(); err != nil {
		return err
	}
	c, err := net.Dial("udp", at)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // a socket
	const size = 1400
	b := make([]byte, size)
	sent := int64(0)
	began := time.Now()
	for time.Since(began) < time.Duration(seconds)*time.Second {
		for due := int64(time.Since(began).Seconds() * float64(mbit) * 1e6 / 8 / size); sent < due; sent++ {
			_, _ = c.Write(b) // one that cannot be sent is lost
		}
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(300 * time.Millisecond)
	n, err := count()
	if err != nil {
		return err
	}
	if sent == 0 {
		return errors.New("nothing was sent")
	}
	fmt.Printf("%.2f\n", 100*float64(sent-n)/float64(sent))
	return nil
}
