package commands

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-containers/skiff/run/config"
)

// leastHealth is the shortest time that a health check's flags take.
const leastHealth = time.Millisecond

// life reads what becomes of the container while it runs and after it has ended: health checks and the restart policy.
func (r *reader) life(cfg *config.Config) {
	r.one("restart", func(s string) (err error) { cfg.Restart, err = parseRestart(s); return err })
	if cfg.Remove && cfg.Restart.Policy != "" {
		r.fail("restart", errors.New("conflicts with --rm: what is removed at its end cannot be started again"))
	}
	h := &cfg.Health
	h.Command = r.c.String("health-cmd")
	if h.Command == "none" {
		h.Command, h.Disable = "", true // Podman's word
	}
	for _, f := range []struct {
		flag string
		to   *time.Duration
	}{
		{"health-interval", &h.Interval},
		{"health-timeout", &h.Timeout},
		{"health-start-period", &h.StartPeriod},
		{"health-start-interval", &h.StartInterval},
	} {
		r.one(f.flag, func(s string) (err error) { *f.to, err = parseHealthTime(s); return err })
	}
	r.one("health-retries", func(s string) (err error) {
		if h.Retries, err = strconv.Atoi(s); err == nil && h.Retries < 0 {
			err = fmt.Errorf("cannot be %d", h.Retries)
		}
		return err
	})
	if h.Disable && (h.Command != "" || h.Interval != 0 || h.Timeout != 0 || h.StartPeriod != 0 || h.StartInterval != 0 || h.Retries != 0) {
		r.fail("no-healthcheck", errors.New("conflicts with the --health-* flags"))
	}
}

func parseHealthTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && d != 0 && d < leastHealth {
		err = fmt.Errorf("cannot be %s: it is 1ms or more, or 0 for the default", s)
	}
	return d, err
}

// parseRestart reads no, always, unless-stopped, on-failure[:MAX].
func parseRestart(s string) (config.Restart, error) {
	policy, limit, limited := strings.Cut(s, ":")
	var p config.Restart
	switch policy {
	case "", "no":
	case "always", "unless-stopped", "on-failure":
		p.Policy = policy
	default:
		return p, fmt.Errorf("invalid restart policy %q: it is no, always, unless-stopped or on-failure[:MAX-RETRIES]", s)
	}
	if !limited {
		return p, nil
	}
	n, err := strconv.Atoi(limit)
	switch {
	case policy != "on-failure":
		return p, fmt.Errorf("invalid restart policy %q: only on-failure takes a number of retries", s)
	case err != nil || n < 0:
		return p, fmt.Errorf("invalid restart policy %q: write on-failure:MAX-RETRIES with a number of 0 or more", s)
	}
	p.MaxRetries = n
	return p, nil
}
