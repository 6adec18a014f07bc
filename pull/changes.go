package pull

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// imageConfig is an image's configuration as Docker writes it.
type imageConfig struct {
	Architecture string          `json:"architecture"`
	OS           string          `json:"os"`
	Variant      string          `json:"variant,omitempty"`
	Created      time.Time       `json:"created"`
	Config       containerConfig `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history,omitempty"`
}

type history struct {
	Created time.Time `json:"created"`
	Comment string    `json:"comment,omitempty"`
}

// containerConfig is the part that containers inherit.
type containerConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
	Healthcheck  *health             `json:"Healthcheck,omitempty"`
}

type health struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// apply carries out one instruction of a Dockerfile, of those that change only the configuration.
func (c *containerConfig) apply(change string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(change), " ")
	rest = strings.TrimSpace(rest)
	// "CMD=..." is Podman's spelling.
	if name, value, ok := strings.Cut(word, "="); ok && !strings.ContainsAny(name, `"'[`) {
		word, rest = name, strings.TrimSpace(value+" "+rest)
	}
	word = strings.ToUpper(word)
	err := errors.New("it has no value")
	if rest != "" {
		err = c.set(word, rest)
	}
	if err != nil {
		return &Error{What: fmt.Sprintf("cannot apply change %q: %s", change, err), Err: err}
	}
	return nil
}

// set carries out one instruction.
func (c *containerConfig) set(word, rest string) (err error) {
	switch word {
	case "CMD":
		c.Cmd = c.command(rest)
	case "ENTRYPOINT":
		c.Entrypoint = c.command(rest)
	case "ENV":
		return pairs(rest, func(k, v string) { c.Env = setVariable(c.Env, k, v) })
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		return pairs(rest, func(k, v string) { c.Labels[k] = v })
	case "EXPOSE":
		return c.expose(rest)
	case "USER":
		c.User = rest
	case "WORKDIR":
		if !strings.HasPrefix(rest, "/") {
			rest = strings.TrimSuffix(c.WorkingDir, "/") + "/" + rest
		}
		c.WorkingDir = rest
	case "VOLUME":
		paths, ok := jsonList(rest)
		if !ok {
			if paths, err = words(rest); err != nil {
				return err
			}
		}
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		for _, p := range paths {
			c.Volumes[p] = struct{}{}
		}
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "SHELL":
		list, ok := jsonList(rest)
		if !ok || len(list) == 0 {
			return errors.New("SHELL takes a JSON list")
		}
		c.Shell = list
	case "HEALTHCHECK":
		c.Healthcheck, err = c.parseHealth(rest)
		return err
	default:
		return fmt.Errorf("%s is no instruction that can be used here (CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR)", word)
	}
	return nil
}

// command is a command in one of its two forms: a JSON list, or words for a shell.
func (c *containerConfig) command(rest string) []string {
	if list, ok := jsonList(rest); ok {
		return list
	}
	shell := c.Shell
	if shell == nil {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, shell...), rest)
}

func jsonList(s string) (list []string, ok bool) {
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

// expose reads PORT[-PORT][/PROTOCOL] words.
func (c *containerConfig) expose(rest string) error {
	list, err := words(rest)
	if err != nil {
		return err
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, word := range list {
		ports, protocol, given := strings.Cut(strings.ToLower(word), "/")
		if !given {
			protocol = "tcp"
		}
		if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			return fmt.Errorf("%q has an unknown protocol", word)
		}
		first, final, isRange := strings.Cut(ports, "-")
		if !isRange {
			final = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(final, 10, 16)
		if err1 != nil || err2 != nil || a == 0 || b < a {
			return fmt.Errorf("%q is no port", word)
		}
		for p := a; p <= b; p++ {
			c.ExposedPorts[strconv.FormatUint(p, 10)+"/"+protocol] = struct{}{}
		}
	}
	return nil
}

// parseHealth reads [--interval=D ...] CMD command, or NONE.
func (c *containerConfig) parseHealth(rest string) (*health, error) {
	h := &health{}
	for {
		word, after, _ := strings.Cut(rest, " ")
		after = strings.TrimSpace(after)
		name, value, ok := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		var err error
		switch {
		case strings.EqualFold(word, "NONE") && after == "":
			h.Test = []string{"NONE"}
			return h, nil
		case strings.EqualFold(word, "CMD") && after != "":
			h.Test = append([]string{"CMD-SHELL"}, after)
			if list, isList := jsonList(after); isList {
				h.Test = append([]string{"CMD"}, list...)
			}
			return h, nil
		case !strings.HasPrefix(word, "--") || !ok:
			return nil, errors.New("HEALTHCHECK is NONE, or [OPTIONS] CMD command")
		case name == "interval":
			h.Interval, err = time.ParseDuration(value)
		case name == "timeout":
			h.Timeout, err = time.ParseDuration(value)
		case name == "start-period":
			h.StartPeriod, err = time.ParseDuration(value)
		case name == "start-interval":
			h.StartInterval, err = time.ParseDuration(value)
		case name == "retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown option --%s", name)
		}
		if err != nil {
			return nil, err
		}
		rest = after
	}
}

// pairs reads K=V ... or the old form K V.
func pairs(rest string, each func(k, v string)) error {
	list, err := words(rest)
	if err != nil {
		return err
	}
	if !strings.Contains(list[0], "=") {
		k, v, ok := strings.Cut(rest, " ")
		if !ok {
			return fmt.Errorf("%q has no value", k)
		}
		each(k, strings.TrimSpace(v))
		return nil
	}
	for _, word := range list {
		k, v, ok := strings.Cut(word, "=")
		if !ok || k == "" {
			return fmt.Errorf("%q is not NAME=VALUE", word)
		}
		each(k, v)
	}
	return nil
}

// setVariable replaces a variable or adds it.
func setVariable(env []string, k, v string) []string {
	for i, e := range env {
		if strings.HasPrefix(e, k+"=") {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

// words splits at spaces, outside quotes; a backslash takes the next character as it is, except between single quotes.
func words(s string) (list []string, err error) {
	var b strings.Builder
	var quote rune
	inside, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inside = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inside = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if inside {
				list = append(list, b.String())
				b.Reset()
				inside = false
			}
		default:
			b.WriteRune(r)
			inside = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quotation is not closed")
	}
	if inside {
		list = append(list, b.String())
	}
	if len(list) == 0 {
		return nil, errors.New("it has no value")
	}
	return list, nil
}
