package monitor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

// What a health check is when neither the image nor the user says, and how much of it is kept (Docker's figures).
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthKept          = 5
	healthOutput        = 4096 // bytes
)

// healthOf is the health check of a container: what the user asked for over what the image says. Nil is none.
func healthOf(c config.Health, img *image.Image) *image.Health {
	var h image.Health
	if img.Health != nil {
		h = *img.Health
	}
	if c.Command != "" {
		h.Test = []string{"CMD-SHELL", c.Command}
	}
	pick := func(to *time.Duration, asked, fallback time.Duration) {
		if asked > 0 {
			*to = asked
		} else if *to == 0 {
			*to = fallback
		}
	}
	pick(&h.Interval, c.Interval, healthInterval)
	pick(&h.Timeout, c.Timeout, healthTimeout)
	pick(&h.StartPeriod, c.StartPeriod, 0)
	pick(&h.StartInterval, c.StartInterval, healthStartInterval)
	if c.Retries > 0 {
		h.Retries = c.Retries
	} else if h.Retries == 0 {
		h.Retries = healthRetries
	}
	if c.Disable || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		h.Test = h.Test[1:]
	case "CMD-SHELL":
		shell := img.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		h.Test = append(shell[:len(shell):len(shell)], h.Test[1:]...)
	}
	if len(h.Test) == 0 {
		return nil
	}
	return &h
}

// watchHealth checks the container's health until its life ends.
func (m *monitor) watchHealth(ctx context.Context, h *image.Health) {
	began := time.Now()
	state := record.Health{Life: m.life, Status: record.HealthStarting}
	m.writeHealth(state)
	for {
		pause := h.Interval
		if state.Status == record.HealthStarting && time.Since(began) < h.StartPeriod {
			pause = h.StartInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if paused, err := m.store.Paused(m.record.ID); err == nil && paused {
			continue
		}
		probe := m.probe(ctx, h)
		if ctx.Err() != nil {
			return
		}
		before := state.Status
		judge(&state, probe, h.Retries, probe.Start.Sub(began) < h.StartPeriod)
		m.writeHealth(state)
		if state.Status != before {
			m.emit("health_status: "+state.Status, nil)
		}
	}
}

// judge takes one check into account. A failure while the container starts does not count; a success ends the starting.
func judge(state *record.Health, probe record.HealthProbe, retries int, starting bool) {
	state.Log = append(state.Log, probe)
	state.Log = state.Log[max(0, len(state.Log)-healthKept):]
	if probe.ExitCode == 0 {
		state.FailingStreak, state.Status = 0, record.HealthGood
		return
	}
	if starting && state.Status == record.HealthStarting {
		return
	}
	if state.FailingStreak++; state.FailingStreak >= retries {
		state.Status = record.HealthBad
	}
}

// writeHealth writes what was found. When that fails the next check says so again.
func (m *monitor) writeHealth(h record.Health) {
	_ = m.store.WriteHealth(m.record.ID, h) // a full disk or a container just removed
}

// probe executes one check in the container.
func (m *monitor) probe(ctx context.Context, h *image.Health) record.HealthProbe {
	result := record.HealthProbe{Start: time.Now().UTC(), ExitCode: -1}
	p, err := m.spawn(stage.Request{Exec: &stage.Exec{Args: h.Test}})
	if err != nil {
		result.End, result.Output = time.Now().UTC(), err.Error()
		return result
	}
	var out capped
	for _, f := range p.out {
		p.copying.Go(func() { out.fill(f) })
	}
	var late atomic.Bool
	kill := func() { _ = p.signal(unix.SIGKILL) } // ESRCH: it has ended
	timer := time.AfterFunc(h.Timeout, func() { late.Store(true); kill() })
	stop := context.AfterFunc(ctx, kill)
	code := p.wait(execGrace)
	timer.Stop()
	stop()
	result.End, result.Output = time.Now().UTC(), out.text()
	if late.Load() {
		result.Output = fmt.Sprintf("Health check exceeded timeout (%s)", h.Timeout)
	} else {
		result.ExitCode = code
	}
	return result
}

// capped keeps the beginning of what a check prints.
type capped struct {
	mu   sync.Mutex
	data []byte
}

func (c *capped) fill(f *os.File) {
	buf := make([]byte, healthOutput)
	for {
		n, err := f.Read(buf)
		c.mu.Lock()
		c.data = append(c.data, buf[:min(n, healthOutput-len(c.data))]...)
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *capped) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.data)
}
