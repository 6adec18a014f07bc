package log

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Entry is one line of output, with its newline if it had one.
type Entry struct {
	Time   time.Time
	Stderr bool
	Line   []byte
}

// ReadOptions choose what Read gives.
type ReadOptions struct {
	Tail         int // lines from the end; negative is all
	Since, Until time.Time
	// Follow keeps reading until Alive says false and everything is read.
	Follow bool
	Alive  func() bool
}

// pollEvery is how often a follower looks for more.
const pollEvery = 30 * time.Millisecond

// Read gives a log's lines, oldest first.
func Read(ctx context.Context, path string, driver Options, o ReadOptions, each func(Entry) error) error {
	if driver.Driver == None {
		return errors.New("cannot read the log: the container was made with --log-driver none")
	}
	var tail []Entry
	emit := func(e Entry) error {
		if !o.Since.IsZero() && e.Time.Before(o.Since) || !o.Until.IsZero() && e.Time.After(o.Until) {
			return nil
		}
		return each(e)
	}
	collect := emit
	if o.Tail >= 0 {
		collect = func(e Entry) error {
			if o.Tail == 0 {
				return nil
			}
			if len(tail) == o.Tail {
				tail = tail[1:]
			}
			e.Line = bytes.Clone(e.Line)
			tail = append(tail, e)
			return nil
		}
	}
	var s splitter
	files, err := openAll(path, driver.MaxFiles)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	first, at := len(files)-1, int64(0)
	if o.Tail >= 0 {
		if first, at, err = tailStart(files, driver.Driver, o.Tail); err != nil {
			return fmt.Errorf("cannot read the log: %w", err)
		}
	}
	for i := first; i >= 0; i-- {
		if _, err := files[i].Seek(at, io.SeekStart); err != nil {
			return fmt.Errorf("cannot read the log: %w", err)
		}
		if err := s.readAll(files[i], driver.Driver, collect); err != nil {
			return err
		}
		at = 0
	}
	if !o.Follow {
		if err := s.flush(collect); err != nil {
			return err
		}
	}
	for _, e := range tail {
		if err := emit(e); err != nil {
			return err
		}
	}
	var f *os.File // what is written to; nil until the next one has been made
	if len(files) > 0 && files[0].Name() == path {
		f, files = files[0], files[1:]
	}
	defer func() { f.Close() }()
	for o.Follow {
		alive := o.Alive() // before the last look, or what came between would be lost
		if f == nil {
			if f, err = os.Open(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("cannot read the log: %w", err)
			}
		}
		if f != nil {
			if err := s.readAll(f, driver.Driver, emit); err != nil {
				return err
			}
			// Rotated meanwhile: what is left of the old file has just been read.
			old, err1 := f.Stat()
			now, err2 := os.Stat(path)
			if err1 == nil && err2 == nil && !os.SameFile(old, now) {
				if err := s.readAll(f, driver.Driver, emit); err != nil {
					return err
				}
				f.Close()
				f = nil
				continue
			}
		}
		if !alive {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
	return s.flush(emit)
}

// openAll opens a log's files, newest first: what is rotated meanwhile is found once more, and left out.
func openAll(path string, most int) (files []*os.File, err error) {
	var last os.FileInfo
	for i := range max(most, 1) {
		name := path
		if i > 0 {
			name = rotated(path, i)
		}
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // nothing was ever printed, or not so much
		}
		var st os.FileInfo
		if err == nil {
			files = append(files, f)
			st, err = f.Stat()
		}
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("cannot read the log: %w", err)
		}
		if last != nil && os.SameFile(last, st) {
			f.Close()
			files = files[:len(files)-1]
		}
		last = st
	}
	return files, nil
}

// splitter turns frames or JSON lines into lines of output.
type splitter struct {
	rest [2][]byte
	at   [2]time.Time
}

// readAll reads whole frames from where f stands; an unfinished one at the end is left for the next time.
func (s *splitter) readAll(f *os.File, driver string, each func(Entry) error) error {
	start, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("cannot read the log: %w", err)
	}
	r := bufio.NewReaderSize(f, 256<<10)
	for {
		n, err := s.one(r, driver, each)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			_, err = f.Seek(start, io.SeekStart)
			return err
		}
		if err != nil {
			return err
		}
		start += n
	}
}

// one reads one frame or line and returns its length in the file.
func (s *splitter) one(r *bufio.Reader, driver string, each func(Entry) error) (int64, error) {
	if driver == JSONFile {
		text, err := r.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return 0, fmt.Errorf("cannot read the log: a damaged line: %w", err)
		}
		return int64(len(text)), each(Entry{l.Time, l.Stream == "stderr", []byte(l.Log)})
	}
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint32(h[:])
	if n > 16<<20 || h[4] > 1 {
		return 0, errors.New("cannot read the log: a damaged frame")
	}
	length := int64(n)
	if h[5] == closed {
		length += frameTrailer
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, err
	}
	return frameHeader + length, s.split(int(h[4]), time.Unix(0, int64(binary.LittleEndian.Uint64(h[8:]))), data[:n], each)
}

func (s *splitter) split(i int, at time.Time, data []byte, each func(Entry) error) error {
	for len(data) > 0 {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 && len(s.rest[i])+len(data) < maxLine {
			if len(s.rest[i]) == 0 {
				s.at[i] = at
			}
			s.rest[i] = append(s.rest[i], data...)
			return nil
		}
		if n == 0 {
			n = len(data)
		}
		e := Entry{at, i == 1, data[:n]}
		if len(s.rest[i]) > 0 {
			e.Line, e.Time = append(s.rest[i], data[:n]...), s.at[i]
			s.rest[i] = nil
		}
		if err := each(e); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// flush gives unfinished lines.
func (s *splitter) flush(each func(Entry) error) error {
	for i := range s.rest {
		if len(s.rest[i]) > 0 {
			if err := each(Entry{s.at[i], i == 1, s.rest[i]}); err != nil {
				return err
			}
			s.rest[i] = nil
		}
	}
	return nil
}
