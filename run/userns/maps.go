package userns

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Extent maps Count ids from Inside (the new namespace) to Outside (the calling process's).
type Extent struct {
	Inside, Outside, Count uint32
}

// maxExtents is what the kernel takes in one map since 4.15 (user_namespaces(7)).
const maxExtents = 340

// startMaps gives the new user namespace of pid its maps: directly when we may (uid 0 with CAP_SETUID: everything that our own namespace maps, as it is), else by
// newuidmap(1) and newgidmap(1), which it does not wait for: the function it returns does, and has their error.
func startMaps(pid int) (wait func() error, err error) {
	if os.Geteuid() == 0 && hasCapability(unix.CAP_SETUID) && hasCapability(unix.CAP_SETGID) {
		return func() error { return nil }, copyMaps(pid)
	}
	return startHelpers(pid)
}

// copyMaps maps what our own namespace maps.
func copyMaps(pid int) error {
	for _, file := range []string{"uid_map", "gid_map"} {
		own, err := os.ReadFile("/proc/self/" + file)
		if err != nil {
			return fmt.Errorf("cannot read our own id map: %w", err)
		}
		m, err := identity(own)
		if err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), m, 0); err != nil { //nolint:forbidigo // no file, a question to the kernel
			return fmt.Errorf("cannot write the id map: %w", err)
		}
	}
	return nil
}

// identity turns the text of a map into one that maps the same ids to themselves.
func identity(own []byte) ([]byte, error) {
	var out bytes.Buffer
	for line := range strings.Lines(string(own)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("cannot read our own id map: unexpected line %q", line)
		}
		fmt.Fprintf(&out, "%s %s %s\n", f[0], f[0], f[2])
	}
	return out.Bytes(), nil
}

// hasCapability says whether c is in our effective set.
func hasCapability(c int) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return false
	}
	return d[c/32].Effective&(1<<(c%32)) != 0
}

// Subordinate is the user's subordinate user and group ids, mapped from 1 up without gaps. They come from /etc/subuid and /etc/subgid, or where those have none from getsubids(1), which asks NSS (subuid(5)).
func Subordinate() (uids, gids []Extent, err error) {
	name, id := userName(), strconv.Itoa(os.Getuid())
	read := func(file string, flag ...string) ([]Extent, error) {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("cannot read subordinate ids: %w", err)
		}
		found := parseSubordinate(data, name, id)
		if len(found) == 0 && name != "" {
			if path, err := exec.LookPath("getsubids"); err == nil {
				out, err := exec.Command(path, append(flag, name)...).Output() //nolint:noctx // ends by itself
				if err == nil {
					found = parseGetsubids(out)
				}
			}
		}
		if len(found) == 0 {
			who := name
			if who == "" {
				who = id
			}
			free := firstFree("/etc/subuid", "/etc/subgid")
			return nil, &Forbidden{
				Reason: fmt.Sprintf("user %s has no subordinate ids in %s", who, file),
				Hint:   fmt.Sprintf("give it some: `sudo usermod --add-subuids %[1]d-%[2]d --add-subgids %[1]d-%[2]d %[3]s`", free, free+65535, who),
			}
		}
		return found, nil
	}
	if uids, err = read("/etc/subuid"); err != nil {
		return nil, nil, err
	}
	if gids, err = read("/etc/subgid", "-g"); err != nil {
		return nil, nil, err
	}
	return uids, gids, nil
}

// firstFree is the first id, from 100000 up, that is behind everybody's in the files: what two users share, neither has for himself.
func firstFree(files ...string) uint64 {
	free := uint64(100000)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) != 3 {
				continue
			}
			first, err1 := strconv.ParseUint(f[1], 10, 32)
			count, err2 := strconv.ParseUint(f[2], 10, 32)
			if err1 == nil && err2 == nil {
				free = max(free, first+count)
			}
		}
	}
	return free
}

// parseSubordinate reads lines of NAME:FIRST:COUNT (subuid(5)) that belong to the user by name or by number.
func parseSubordinate(data []byte, name, id string) []Extent {
	var found []Extent
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) == 3 && f[0] != "" && (f[0] == name || f[0] == id) {
			found = appendExtent(found, f[1], f[2])
		}
	}
	return found
}

// parseGetsubids reads lines of "0: NAME FIRST COUNT" (getsubids(1)).
func parseGetsubids(data []byte) []Extent {
	var found []Extent
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 4 {
			found = appendExtent(found, f[2], f[3])
		}
	}
	return found
}

// appendExtent adds a range behind those already there; malformed, empty and overflowing ones are passed over, as shadow does.
func appendExtent(found []Extent, first, count string) []Extent {
	a, err1 := strconv.ParseUint(first, 10, 32)
	n, err2 := strconv.ParseUint(count, 10, 32)
	next := uint64(1)
	for _, e := range found {
		next = uint64(e.Inside) + uint64(e.Count)
	}
	if err1 != nil || err2 != nil || n == 0 || a+n > 1<<32-1 || next+n > 1<<32-1 || len(found) >= maxExtents-1 {
		return found
	}
	return append(found, Extent{Inside: uint32(next), Outside: uint32(a), Count: uint32(n)})
}

// userName is the calling user's login name, "" when nobody knows it. /etc/passwd first: it is what is there on nearly every machine; id(1) asks NSS.
func userName() string {
	if f := account(); f != nil {
		return f[0]
	}
	if path, err := exec.LookPath("id"); err == nil {
		if out, err := exec.Command(path, "-un").Output(); err == nil { //nolint:noctx // ends by itself
			return strings.TrimSpace(string(out))
		}
	}
	return ""
}

// Home is the home directory that /etc/passwd gives the calling user, for where the environment has none (cron, service managers); "" when it has no line for it.
func Home() string {
	if f := account(); f != nil {
		return f[5]
	}
	return ""
}

// account is the calling user's line of /etc/passwd, seven fields; nil when there is none.
func account() []string {
	id := strconv.Itoa(os.Getuid())
	data, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 7 && f[2] == id {
			return f
		}
	}
	return nil
}
