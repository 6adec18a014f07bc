package files

// This file writes, beside an archive, what tar-split calls its metadata: the bytes that are not files' contents, and the files' names and checksums. With them and
// the files the store gives out the very same archive again (github.com/vbatts/tar-split, tar/storage; the library's own writer takes three times as long).

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc64"
	"io"
	"strconv"
	"unicode/utf8"
)

// splitter writes the lines of one archive.
type splitter struct {
	w       *bufio.Writer
	table   *crc64.Table
	lines   int
	segment []byte // read of the archive and not written yet
	line    []byte
}

func newSplitter(w io.Writer) *splitter {
	return &splitter{w: bufio.NewWriterSize(w, 1<<18), table: crc64.MakeTable(crc64.ISO)}
}

// flush writes the bytes since the last file.
func (s *splitter) flush() error {
	if len(s.segment) == 0 {
		return nil
	}
	s.line = append(s.line[:0], `{"type":2,"payload":"`...)
	s.line = base64.StdEncoding.AppendEncode(s.line, s.segment)
	s.segment = s.segment[:0]
	return s.end()
}

// file writes the name, size and checksum of a file whose header has just been written; the contents come between this and the next header.
func (s *splitter) file(name string, size int64, sum uint64) error {
	if err := s.flush(); err != nil {
		return err
	}
	s.line = append(s.line[:0], `{"type":1,`...)
	if utf8.ValidString(name) {
		quoted, err := json.Marshal(name)
		if err != nil {
			return err
		}
		s.line = append(append(s.line, `"name":`...), quoted...)
	} else {
		s.line = base64.StdEncoding.AppendEncode(append(s.line, `"name_raw":"`...), []byte(name))
		s.line = append(s.line, '"')
	}
	if size > 0 {
		s.line = strconv.AppendInt(append(s.line, `,"size":`...), size, 10)
	}
	s.line = append(s.line, `,"payload":"`...)
	if size > 0 {
		s.line = base64.StdEncoding.AppendEncode(s.line, binary.BigEndian.AppendUint64(nil, sum))
	}
	return s.end()
}

// end writes a line whose payload's end is missing.
func (s *splitter) end() error {
	s.line = append(s.line, `","position":`...)
	s.line = append(strconv.AppendInt(s.line, int64(s.lines), 10), '}', '\n')
	s.lines++
	_, err := s.w.Write(s.line)
	return err
}

// close writes what is left.
func (s *splitter) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.w.Flush()
}
