package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes with an optional unit: 512, 64k, 1.5g, 2GiB. -1 is unlimited where that means something.
func ParseSize(s string) (int64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	if text == "-1" {
		return -1, nil
	}
	number := strings.TrimRight(text, "bkmgtpi")
	shift, ok := map[string]int{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30,
		"t": 40, "tb": 40, "tib": 40, "p": 50, "pb": 50, "pib": 50,
	}[text[len(number):]]
	number = strings.TrimSpace(number)
	value, err := strconv.ParseFloat(number, 64)
	// ParseFloat also reads signs, exponents, hexadecimal digits and words, which no size has.
	if !ok || err != nil || !digits(number) || value*float64(int64(1)<<shift) >= math.MaxInt64 {
		return 0, fmt.Errorf("invalid size %q: write a number with k, m or g, such as 64m", s)
	}
	return int64(value * float64(int64(1)<<shift)), nil
}

// digits says that a number is written in plain decimal digits, perhaps with a point.
func digits(s string) bool { return strings.Trim(s, "0123456789.") == "" }

// ParseCPUs reads a number of processors such as 1.5 and returns it in billionths.
func ParseCPUs(s string) (int64, error) {
	value, err := strconv.ParseFloat(s, 64)
	if err != nil || !digits(s) || value > 1<<20 || value > 0 && value < 1e-9 {
		return 0, fmt.Errorf("invalid number of processors %q: write a number such as 1.5", s)
	}
	return int64(math.Round(value * 1e9)), nil
}

// ulimits are the names that --ulimit takes.
var ulimits = []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack", "as"}

// ParseUlimit reads NAME=SOFT[:HARD]; -1 or unlimited is no limit.
func ParseUlimit(s string) (Ulimit, error) {
	bad := func() (Ulimit, error) {
		return Ulimit{}, fmt.Errorf("invalid ulimit %q: write NAME=SOFT[:HARD], such as nofile=1024:2048, with one of %s", s, strings.Join(ulimits, " "))
	}
	name, values, ok := strings.Cut(s, "=")
	known := false
	for _, n := range ulimits {
		known = known || n == name
	}
	if !ok || !known {
		return bad()
	}
	number := func(t string) (int64, bool) {
		if t == "unlimited" || t == "-1" {
			return -1, true
		}
		n, err := strconv.ParseInt(t, 10, 64)
		return n, err == nil && n >= 0
	}
	softText, hardText, two := strings.Cut(values, ":")
	if !two {
		hardText = softText
	}
	soft, ok1 := number(softText)
	hard, ok2 := number(hardText)
	if !ok1 || !ok2 {
		return bad()
	}
	if hard >= 0 && (soft < 0 || soft > hard) {
		return Ulimit{}, fmt.Errorf("invalid ulimit %q: the soft limit is above the hard one", s)
	}
	return Ulimit{Name: name, Soft: soft, Hard: hard}, nil
}

// ParseRestart reads no, always, unless-stopped or on-failure[:N].
func ParseRestart(s string) (Restart, error) {
	policy, count, has := strings.Cut(s, ":")
	r := Restart{Policy: policy}
	switch {
	case policy == "on-failure" && has:
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 {
			return r, fmt.Errorf("invalid restart policy %q: the number of retries must be 0 or more", s)
		}
		r.MaxRetries = n
	case has, policy != "" && policy != "no" && policy != "always" && policy != "unless-stopped" && policy != "on-failure":
		return r, fmt.Errorf("invalid restart policy %q: it is no, always, unless-stopped or on-failure[:N]", s)
	}
	return r, nil
}
