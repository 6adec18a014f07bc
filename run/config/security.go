package config

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ParseSecurityOpt adds one --security-opt to s.
func ParseSecurityOpt(s *Security, opt string) error {
	key, value, has := strings.Cut(opt, "=")
	if !has {
		key, value, has = strings.Cut(opt, ":")
	}
	switch {
	case key == "no-new-privileges":
		on := true
		if has {
			var err error
			if on, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("invalid security option %q: no-new-privileges is true or false", opt)
			}
		}
		s.NoNewPrivileges = on
	case key == "seccomp" && value == "unconfined":
		s.Seccomp, s.SeccompPath = "unconfined", ""
	case key == "seccomp" && (value == "builtin" || value == "default"):
		s.Seccomp, s.SeccompPath = "", ""
	case key == "seccomp" && value != "":
		data, err := ReadFile(value)
		if err != nil {
			return fmt.Errorf("cannot read the seccomp profile: %w", err)
		}
		if !json.Valid(data) {
			return fmt.Errorf("cannot use the seccomp profile %s: it is not JSON", value)
		}
		s.Seccomp, s.SeccompPath = string(data), value
	case key == "mask" && value != "", key == "unmask" && value != "":
		for p := range strings.SplitSeq(value, ":") {
			if !path.IsAbs(p) && (key != "unmask" || !strings.EqualFold(p, "ALL")) {
				return fmt.Errorf("invalid security option %q: %q is not an absolute path", opt, p)
			}
			if key == "mask" {
				s.Mask = append(s.Mask, p)
			} else {
				s.Unmask = append(s.Unmask, p)
			}
		}
	case key == "systempaths" && value == "unconfined":
		s.Unmask = append(s.Unmask, "ALL")
	case key == "apparmor" && value == "unconfined", key == "label" && value == "disable":
		// Nothing of either is set up, so nothing has to be switched off.
	case key == "label":
		return fmt.Errorf("cannot use the SELinux label %q: containers get none; give label=disable", value)
	case key == "apparmor":
		return fmt.Errorf("cannot use the AppArmor profile %q: an unprivileged user cannot enter one; give apparmor=unconfined", value)
	default:
		return fmt.Errorf("unknown security option %q: there are no-new-privileges, seccomp=PROFILE|unconfined, mask=PATHS, unmask=PATHS|ALL, systempaths=unconfined", opt)
	}
	return nil
}

// ParseDevice reads --device: HOST[:CONTAINER][:rwm].
func ParseDevice(s string) (Device, error) {
	d := Device{Permissions: "rwm"}
	parts := strings.Split(s, ":")
	d.Host, d.Container = parts[0], parts[0]
	permissions := func(p string) bool { return p != "" && strings.Trim(p, "rwm") == "" }
	switch {
	case len(parts) == 1:
	case len(parts) == 2 && permissions(parts[1]):
		d.Permissions = parts[1]
	case len(parts) == 2:
		d.Container = parts[1]
	case len(parts) == 3 && permissions(parts[2]):
		d.Container, d.Permissions = parts[1], parts[2]
	default:
		d.Host = ""
	}
	if !path.IsAbs(d.Host) || !path.IsAbs(d.Container) {
		return d, fmt.Errorf("invalid device %q: write HOST[:CONTAINER][:rwm], such as /dev/fuse, or VENDOR/CLASS=NAME of the Container Device Interface", s)
	}
	return d, nil
}

// ParseSysctl reads NAME=VALUE.
func ParseSysctl(s string) (key, value string, err error) {
	key, value, has := strings.Cut(s, "=")
	key = strings.ReplaceAll(key, "/", ".")
	if !has || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || strings.Contains(key, "..") {
		return "", "", fmt.Errorf("invalid sysctl %q: write NAME=VALUE, such as net.ipv4.ip_forward=1", s)
	}
	return key, value, nil
}

// ParseSignal reads a signal's name, with or without SIG, or its number; RTMIN+N and RTMAX-N too.
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	for prefix, base := range map[string]int{"RTMIN": 34, "RTMAX": 64} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			n := 0
			if rest != "" {
				var err error
				if n, err = strconv.Atoi(rest); err != nil || rest[0] != '+' && rest[0] != '-' {
					break
				}
			}
			if base+n >= 34 && base+n <= 64 {
				return unix.Signal(base + n), nil
			}
		}
	}
	return 0, fmt.Errorf("unknown signal %q: write a name such as TERM or a number from 1 to 64", s)
}
