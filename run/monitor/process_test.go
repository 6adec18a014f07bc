package monitor

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ended is a process that has already ended.
type ended struct{}

func (ended) Pid() int                 { return 1 }
func (ended) Console() *os.File        { return nil }
func (ended) Signal(unix.Signal) error { return unix.ESRCH }
func (ended) Wait() (int, error)       { return 0, nil }

func TestSlowReaderGetsEverything(t *testing.T) {
	p := newProcess(nil)
	p.Process = ended{}
	theirs, err := p.pipes(false)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 190<<10/16)
	client := p.attach(w, false)
	p.run()
	if _, err := theirs[1].Write(sent); err != nil {
		t.Fatal(err)
	}
	theirs[1].Close()
	theirs[2].Close()
	waited := make(chan struct{})
	go func() { p.wait(20 * time.Millisecond); p.detach([]*sink{client}); close(waited) }()
	time.Sleep(200 * time.Millisecond) // many times the grace
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("got %d of %d bytes, %v", len(got), len(sent), err)
	}
	<-waited
}

func TestHeldOutputEndsAfterGrace(t *testing.T) {
	p := newProcess(nil)
	p.Process = ended{}
	theirs, err := p.pipes(false)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs[1].Close() // as a background child does
	defer theirs[2].Close()
	p.run()
	p.wait(20 * time.Millisecond)
}

// On a busy machine the copying may get to run long after the process has ended.
func TestLateCopyingLosesNothing(t *testing.T) {
	p := newProcess(nil)
	p.Process = ended{}
	theirs, err := p.pipes(false)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs[1].Close() // somebody holds it open: there is no end to wait for
	theirs[2].Close()
	if _, err := theirs[1].WriteString("all of it"); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	client := p.attach(w, false)
	p.copying.Go(func() {
		time.Sleep(200 * time.Millisecond) // many times the grace
		p.copyOut(p.out[0], false)
	})
	p.wait(20 * time.Millisecond)
	p.detach([]*sink{client})
	if got, err := io.ReadAll(r); err != nil || string(got) != "all of it" {
		t.Fatalf("got %q, %v", got, err)
	}
}
