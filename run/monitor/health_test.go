package monitor

import (
	"slices"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/record"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name     string
		codes    []int
		starting bool
		want     string
		streak   int
	}{
		{"none", nil, false, record.HealthStarting, 0},
		{"good", []int{0}, false, record.HealthGood, 0},
		{"too few failures", []int{1, 1}, false, record.HealthStarting, 2},
		{"failures", []int{1, -1, 2}, false, record.HealthBad, 3},
		{"recovered", []int{1, 1, 1, 0}, false, record.HealthGood, 0},
		{"failing again", []int{0, 1, 1}, false, record.HealthGood, 2},
		{"starting", []int{1, 1, 1, 1}, true, record.HealthStarting, 0},
		{"started early", []int{1, 0, 1, 1, 1}, true, record.HealthBad, 3},
	} {
		state := record.Health{Status: record.HealthStarting}
		for _, code := range c.codes {
			judge(&state, record.HealthProbe{ExitCode: code}, 3, c.starting)
		}
		if state.Status != c.want || state.FailingStreak != c.streak {
			t.Errorf("%s: %s after %d failures, want %s after %d", c.name, state.Status, state.FailingStreak, c.want, c.streak)
		}
		if len(state.Log) > healthKept {
			t.Errorf("%s: %d checks are kept", c.name, len(state.Log))
		}
	}
}

func TestHealthOf(t *testing.T) {
	of := func(test ...string) *image.Image { return &image.Image{Health: &image.Health{Test: test, Retries: 7}} }
	for _, c := range []struct {
		name string
		user config.Health
		img  *image.Image
		want []string
	}{
		{"nothing", config.Health{}, &image.Image{}, nil},
		{"image's words", config.Health{}, of("CMD", "a", "b"), []string{"a", "b"}},
		{"image's line", config.Health{}, of("CMD-SHELL", "a b"), []string{"/bin/sh", "-c", "a b"}},
		{"image's none", config.Health{}, of("NONE"), nil},
		{"empty words", config.Health{}, of("CMD"), nil},
		{"user's none", config.Health{Disable: true}, of("CMD", "a"), nil},
		{"user's", config.Health{Command: "x"}, of("CMD", "a"), []string{"/bin/sh", "-c", "x"}},
		{"user's over none", config.Health{Command: "x"}, of("NONE"), []string{"/bin/sh", "-c", "x"}},
	} {
		h := healthOf(c.user, c.img)
		if (h == nil) != (c.want == nil) || h != nil && !slices.Equal(h.Test, c.want) {
			t.Errorf("%s: %v, want %v", c.name, h, c.want)
		}
	}
	h := healthOf(config.Health{Interval: time.Second}, of("CMD", "a"))
	if h.Interval != time.Second || h.Timeout != healthTimeout || h.Retries != 7 || h.StartInterval != healthStartInterval {
		t.Errorf("the times are %+v", h)
	}
}

func TestAgain(t *testing.T) {
	for _, c := range []struct {
		policy         string
		max, code, had int
		want           bool
	}{
		{"", 0, 1, 0, false},
		{"always", 0, 0, 50, true},
		{"unless-stopped", 0, 0, 3, true},
		{"on-failure", 0, 0, 0, false},
		{"on-failure", 0, 1, 99, true},
		{"on-failure", 2, 1, 1, true},
		{"on-failure", 2, 1, 2, false},
	} {
		if got := again(config.Restart{Policy: c.policy, MaxRetries: c.max}, c.code, c.had); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
