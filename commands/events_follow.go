package commands

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/skiff-containers/skiff/storage/record"
)

// eventsTick is how often a file that has ended is looked at again. (Watching it with inotify would say no sooner
// what a person can see.)
const eventsTick = 100 * time.Millisecond

// followEvents calls each for every event of the file, the rotated one first when it may hold events since then, and for those
// that are appended until the context ends.
func followEvents(ctx context.Context, path string, since time.Time, each func(record.Event) error) error {
	if st, err := os.Stat(path + ".1"); err == nil && st.ModTime().After(since) {
		old, err := os.Open(path + ".1")
		if err == nil {
			err = errors.Join(readEvents(&lines{r: bufio.NewReader(old)}, each), old.Close())
		}
		if err != nil {
			return fmt.Errorf("cannot read events: %w", err)
		}
	}
	var file *os.File
	defer func() { file.Close() }()
	var reader *lines
	for {
		ended := ctx.Err() != nil // asked before reading: what was there at the deadline is shown
		if moved(file, path) {
			if file != nil {
				if err := readEvents(reader, each); err != nil {
					return err
				}
				_ = file.Close()
			}
			next, err := os.Open(path)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("cannot read events: %w", err)
			}
			file, reader = next, &lines{r: bufio.NewReader(next)}
		}
		if file != nil {
			if err := readEvents(reader, each); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(eventsTick):
		}
	}
}

// moved says whether path is another file than the one that is open, or there is one now and none was.
func moved(file *os.File, path string) bool {
	now, err := os.Stat(path)
	if err != nil || file == nil {
		return err == nil
	}
	was, err := file.Stat()
	return err == nil && !os.SameFile(was, now)
}

// lines reads whole lines; what has no end yet is kept for the next time.
type lines struct {
	r    *bufio.Reader
	part []byte
}

func (l *lines) next() ([]byte, error) {
	more, err := l.r.ReadBytes('\n')
	l.part = append(l.part, more...)
	if err != nil {
		return nil, err
	}
	line := bytes.Clone(l.part)
	l.part = l.part[:0]
	return line, nil
}

// readEvents reads what there is. A line that is no event (half of one, after a crash) is passed over.
func readEvents(l *lines, each func(record.Event) error) error {
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read events: %w", err)
		}
		var e record.Event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
