package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// tailStart says where reading has to begin to meet the last n lines, whole: in which of the files (newest first) and at which byte of it. An unfinished line of a stream that
// has printed nothing since is not among them. A log of an older version, which can be read forwards only, and a damaged one are read from their beginning.
func tailStart(files []*os.File, driver string, n int) (file int, at int64, err error) {
	if len(files) == 0 {
		return -1, 0, nil
	}
	t := tail{n: n}
	for i, f := range files {
		st, err := f.Stat()
		if err != nil {
			return 0, 0, err
		}
		back := t.frames
		if driver == JSONFile {
			back = t.lines
		}
		at, enough, err := back(f, st.Size())
		switch {
		case errors.Is(err, errForwardsOnly):
			return len(files) - 1, 0, nil
		case err != nil:
			return 0, 0, err
		case enough:
			return i, at, nil
		}
	}
	return len(files) - 1, 0, nil
}

// tail counts lines backwards.
type tail struct {
	n     int     // how many are still wanted
	heads [2]bool // of which streams a line has been met whose beginning has not
}

var errForwardsOnly = errors.New("no frame ends here")

// frames goes back over a file of the local driver. It stops in front of a frame when the lines that end behind it are enough, and the beginning of each is behind it too.
func (t *tail) frames(f *os.File, end int64) (at int64, enough bool, err error) {
	var data []byte
	for at = end; ; {
		if t.n <= 0 && !t.heads[0] && !t.heads[1] {
			return at, true, nil
		}
		if at == 0 {
			return 0, false, nil
		}
		var h [frameHeader]byte
		if at < frameHeader+frameTrailer {
			return 0, false, errForwardsOnly
		}
		if _, err := f.ReadAt(h[:frameTrailer], at-frameTrailer); err != nil {
			return 0, false, err
		}
		n := int64(binary.LittleEndian.Uint32(h[:]))
		start := at - frameTrailer - n - frameHeader
		if start < 0 {
			return 0, false, errForwardsOnly
		}
		if _, err := f.ReadAt(h[:], start); err != nil {
			return 0, false, err
		}
		if int64(binary.LittleEndian.Uint32(h[:])) != n || h[4] > 1 || h[5] != closed {
			return 0, false, errForwardsOnly
		}
		if int64(cap(data)) < n {
			data = make([]byte, n)
		}
		data = data[:n]
		if _, err := f.ReadAt(data, start+frameHeader); err != nil {
			return 0, false, err
		}
		stream, ends := h[4], bytes.Count(data, []byte{'\n'})
		switch {
		case ends > 0:
			t.heads[stream] = ends <= t.n // the first line that ends here is wanted, and may have begun before
		case t.n > 0:
			t.heads[stream] = true
		}
		t.n -= ends
		at = start
	}
}

// lines goes back over a file of lines.
func (t *tail) lines(f *os.File, end int64) (at int64, enough bool, err error) {
	if t.n <= 0 {
		return end, true, nil
	}
	block := make([]byte, 64<<10)
	for at = end; at > 0; {
		b := block[:min(int64(len(block)), at)]
		at -= int64(len(b))
		if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		for i := bytes.LastIndexByte(b, '\n'); i >= 0; i = bytes.LastIndexByte(b[:i], '\n') {
			if t.n--; t.n < 0 { // the end of the line before the first one
				return at + int64(i) + 1, true, nil
			}
		}
	}
	return 0, false, nil
}
