// Package log is what containers have printed, on disk: the drivers local (frames, rotated; the default), json-file (Docker's lines) and none.
//
// Writers run in the monitor, readers in the front; they share nothing but the files.
package log

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/skiff-containers/skiff/run/config"
)

// The drivers.
const (
	Local    = "local"
	JSONFile = "json-file"
	None     = "none"
)

// A frame of the local driver is a header, little-endian, and the bytes as they came:
//
//	0  uint32  length of the data
//	4  uint8   1: standard error
//	5  uint8   1: the length stands once more behind the data, to read backwards by; 0 in logs of older versions
//	6  2 bytes zero
//	8  int64   time, nanoseconds since 1970
const (
	frameHeader  = 16
	frameTrailer = 4
	closed       = 1
)

// Options are a driver with its --log-opt values.
type Options struct {
	Driver   string
	MaxSize  int64 // bytes of one file; 0 never rotates
	MaxFiles int
}

// ParseOptions checks a driver's name and options. The zero driver is local with Docker's 20 MB in 5 files.
func ParseOptions(driver string, opts map[string]string) (Options, error) {
	o := Options{Driver: driver, MaxFiles: 1}
	switch driver {
	case "", Local:
		o = Options{Driver: Local, MaxSize: 20 << 20, MaxFiles: 5}
	case JSONFile, None:
	default:
		return o, fmt.Errorf("no log driver %q: there are local, json-file and none", driver)
	}
	for key, value := range opts {
		var err error
		switch key {
		case "max-size":
			o.MaxSize, err = config.ParseSize(value)
			if o.MaxSize < 0 {
				o.MaxSize = 0
			}
		case "max-file":
			o.MaxFiles, err = strconv.Atoi(value)
			if err != nil || o.MaxFiles < 1 {
				err = fmt.Errorf("invalid max-file %q: it is 1 or more", value)
			}
		case "compress", "mode":
		default:
			err = fmt.Errorf("no log option %q for driver %s: there are max-size and max-file", key, o.Driver)
		}
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

// Writer appends output to a log. A write that fails (a full disk) is counted and forgotten: a container never stops for its log.
type Writer struct {
	mu      sync.Mutex
	o       Options
	path    string
	file    *os.File
	size    int64
	dropped int64
	frame   []byte
	rest    [2][]byte // json-file: the unfinished line of each stream
}

// Create opens the log for appending. None needs no file.
func Create(path string, o Options) (*Writer, error) {
	w := &Writer{o: o, path: path}
	if o.Driver == None {
		return w, nil
	}
	return w, w.open()
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("cannot open the log: %w", err)
	}
	w.file, w.size = f, st.Size()
	return nil
}

// Write appends what one read of a stream brought.
func (w *Writer) Write(stderr bool, data []byte) {
	if w.o.Driver == None || len(data) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped > 0 {
		note := fmt.Appendf(nil, "[skiff: %d bytes of output are missing here: the log could not be written]\n", w.dropped)
		if w.append(true, note) != nil {
			w.dropped += int64(len(data))
			return
		}
		w.dropped = 0
	}
	if w.append(stderr, data) != nil {
		w.dropped += int64(len(data))
	}
}

func (w *Writer) append(stderr bool, data []byte) error {
	if w.file == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	now := time.Now()
	w.frame = w.frame[:0]
	if w.o.Driver == JSONFile {
		w.lines(stderr, data, now)
	} else {
		w.frame = binary.LittleEndian.AppendUint32(w.frame, uint32(len(data)))
		kind := byte(0)
		if stderr {
			kind = 1
		}
		w.frame = append(w.frame, kind, closed, 0, 0)
		w.frame = binary.LittleEndian.AppendUint64(w.frame, uint64(now.UnixNano()))
		w.frame = append(w.frame, data...)
		w.frame = binary.LittleEndian.AppendUint32(w.frame, uint32(len(data)))
	}
	if len(w.frame) == 0 {
		return nil
	}
	if w.o.MaxSize > 0 && w.size > 0 && w.size+int64(len(w.frame)) > w.o.MaxSize {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(w.frame)
	if err != nil {
		// No half frame may stay: a reader could not go on behind it.
		return errors.Join(err, w.file.Truncate(w.size))
	}
	w.size += int64(n)
	return nil
}

type line struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// maxLine is where json-file splits long lines, as Docker does.
const maxLine = 16 << 10

func (w *Writer) lines(stderr bool, data []byte, now time.Time) {
	i, stream := 0, "stdout"
	if stderr {
		i, stream = 1, "stderr"
	}
	rest := append(w.rest[i], data...)
	for len(rest) > 0 {
		n := 0
		for n < len(rest) && n < maxLine && rest[n] != '\n' {
			n++
		}
		if n < len(rest) && rest[n] == '\n' {
			n++
		} else if n < maxLine {
			break
		}
		w.frame = appendLine(w.frame, string(rest[:n]), stream, now)
		rest = rest[n:]
	}
	w.rest[i] = append(w.rest[i][:0], rest...)
}

func appendLine(to []byte, text, stream string, now time.Time) []byte {
	b, err := json.Marshal(line{text, stream, now.UTC()})
	if err != nil {
		return to // a string, a string and a time always encode
	}
	return append(append(to, b...), '\n')
}

// rotate renames log to log.1, log.1 to log.2, and so on; the oldest goes.
func (w *Writer) rotate() error {
	err := w.file.Close()
	w.file = nil // until the new one is open: what fails here is tried again with the next output
	if err != nil {
		return err
	}
	for i := w.o.MaxFiles - 1; i > 0; i-- {
		from := w.path
		if i > 1 {
			from = rotated(w.path, i-1)
		}
		if err := os.Rename(from, rotated(w.path, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if w.o.MaxFiles == 1 {
		if err := os.Remove(w.path); err != nil {
			return err
		}
	}
	return w.open()
}

func rotated(path string, i int) string { return path + "." + strconv.Itoa(i) }

// Close writes unfinished lines and closes the file.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frame = w.frame[:0]
	for i, stream := range []string{"stdout", "stderr"} {
		if len(w.rest[i]) > 0 {
			w.frame = appendLine(w.frame, string(w.rest[i]), stream, time.Now())
		}
	}
	_, err := w.file.Write(w.frame)
	return errors.Join(err, w.file.Close())
}
