//go:build !front

package commands

// This file reads what limits the commands of a build: --resource, and the flags of the classic builder, which say the same.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run/config"
)

// limitKeys are the keys of --resource. Each but cpus is a flag of its own as well.
func limitKeys() []string {
	return []string{"memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"}
}

// buildLimits collects the limits of RUN.
func buildLimits(c *cli.Context) (l config.Limits, err error) {
	for _, key := range limitKeys() {
		if v := c.String(key); v != "" {
			if err := setLimit(&l, key, v); err != nil {
				return l, fmt.Errorf("cannot use --%s %s: %w", key, v, err)
			}
		}
	}
	for _, text := range listOf(c, "resource") {
		if err := parseResource(&l, text); err != nil {
			return l, fmt.Errorf("cannot use --resource %s: %w", text, err)
		}
	}
	if l.MemorySwap != 0 && l.Memory == 0 {
		return l, errors.New("cannot use --memory-swap: it needs --memory as well")
	}
	if l.MemorySwap > 0 && l.MemorySwap < l.Memory {
		return l, errors.New("cannot use --memory-swap: it is memory and swap together and cannot be less than --memory")
	}
	return l, nil
}

// parseResource reads KEY=VALUE[,KEY=VALUE...]. A word without = goes on with the list of processors before it.
func parseResource(l *config.Limits, text string) error {
	var pairs [][2]string
	for _, field := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			if n := len(pairs); n > 0 && strings.HasPrefix(pairs[n-1][0], "cpuset-") {
				pairs[n-1][1] += "," + field
				continue
			}
			return fmt.Errorf("%q is not KEY=VALUE; there are %s", field, strings.Join(limitKeys(), ", "))
		}
		pairs = append(pairs, [2]string{strings.TrimSpace(key), value})
	}
	for _, p := range pairs {
		if err := setLimit(l, p[0], p[1]); err != nil {
			return fmt.Errorf("%s: %w", p[0], err)
		}
	}
	return nil
}

// setLimit sets one of them.
func setLimit(l *config.Limits, key, value string) (err error) {
	switch key {
	case "memory":
		l.Memory, err = config.ParseSize(value)
		l.Memory = max(l.Memory, 0) // -1 is no limit
	case "memory-swap":
		l.MemorySwap, err = config.ParseSize(value)
	case "cpu-shares":
		l.CPUShares, err = strconv.ParseUint(value, 10, 64)
	case "cpu-period":
		l.CPUPeriod, err = strconv.ParseUint(value, 10, 64)
	case "cpu-quota":
		l.CPUQuota, err = strconv.ParseInt(value, 10, 64)
	case "cpuset-cpus":
		l.CPUSetCPUs, err = processors(value)
	case "cpuset-mems":
		l.CPUSetMems, err = processors(value)
	default:
		return fmt.Errorf("there is no such resource; there are %s", strings.Join(limitKeys(), ", "))
	}
	if errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%q is no number", value)
	}
	return err
}

// processors checks a list such as 0-3,5.
func processors(value string) (string, error) {
	for _, part := range strings.Split(value, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && ranged {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a {
			return "", fmt.Errorf("%q is no list such as 0-3,5", value)
		}
	}
	return value, nil
}
