package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Apply puts a process into the groups.
func (g *Group) Apply(pid int) error {
	if g == nil {
		return nil
	}
	for _, dir := range g.all {
		if err := write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("cannot put process %d into the control group %s: %w", pid, dir, err)
		}
	}
	return nil
}

// killPatience is how long the processes may take to end: on a machine with much to do they wait for their turn.
const killPatience = 10 * time.Second

// Kill ends every process in the groups.
func (g *Group) Kill() error {
	if g == nil || len(g.all) == 0 {
		return nil
	}
	if g.unified && write(filepath.Join(g.all[""], "cgroup.kill"), "1") == nil {
		return nil
	}
	if dir := g.all[hybrid]; dir != "" {
		_ = write(filepath.Join(dir, "cgroup.kill"), "1") // what it does not reach is found below
	}
	// Before Linux 5.14 and on v1: until a round finds nobody, since what is killed may just have forked.
	for end, pause := time.Now().Add(killPatience), time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		found := false
		for _, dir := range g.all {
			pids, err := words(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				return fmt.Errorf("cannot kill the processes of the control group %s: %w", dir, err)
			}
			for _, p := range pids {
				if pid, err := strconv.Atoi(p); err == nil && pid > 0 {
					found = true
					if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
						return fmt.Errorf("cannot kill process %d: %w", pid, err)
					}
				}
			}
		}
		if !found {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("cannot kill the processes of the control group: they do not end")
		}
		time.Sleep(pause) //nolint:forbidigo // nothing tells when a control group is empty on v1
	}
}

// End ends the groups that somebody noted who was killed, with what runs in them.
func End(dirs []string) error {
	g := &Group{all: make(map[string]string)}
	for _, dir := range dirs {
		if strings.HasPrefix(filepath.Clean(dir), root+"/") {
			if _, err := os.Stat(dir); err == nil {
				g.all[dir] = dir
			}
		}
	}
	return errors.Join(g.Kill(), g.Delete())
}

// Stats is what a container uses; what is not measured is zero.
type Stats struct {
	Memory int64         // bytes
	CPU    time.Duration // since the start
	Pids   int64
}

// Stats reads what the groups measure.
func (g *Group) Stats() (s Stats) {
	if g == nil {
		return s
	}
	if g.unified {
		dir := g.all[""]
		s.Memory, s.Pids = integer(filepath.Join(dir, "memory.current")), integer(filepath.Join(dir, "pids.current"))
		s.CPU = time.Duration(value(filepath.Join(dir, "cpu.stat"), "usage_usec")) * time.Microsecond
		return s
	}
	if dir := g.all["memory"]; dir != "" {
		s.Memory = integer(filepath.Join(dir, "memory.usage_in_bytes"))
	}
	if dir := g.all["pids"]; dir != "" {
		s.Pids = integer(filepath.Join(dir, "pids.current"))
	}
	return s
}

// Delete removes the groups, which must be empty. The kernel counts an ended process as a member until it has been
// taken apart, so a busy group is asked again for a while.
func (g *Group) Delete() error {
	if g == nil {
		return nil
	}
	var errs []error
	if g.FD != nil {
		errs = append(errs, g.FD.Close())
		g.FD = nil
	}
	for controller, dir := range g.all {
		err := Remove(dir)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("cannot remove the control group %s: %w", dir, err))
			continue
		}
		delete(g.all, controller)
		g.Dirs = slices.DeleteFunc(g.Dirs, func(d string) bool { return d == dir })
	}
	return errors.Join(errs...)
}

// Remove removes a group by its directory, with those that the container may have made in it. The kernel counts an ended process as a member until it has been taken apart, so a busy
// group is asked again for a while.
func Remove(dir string) error {
	err := remove(dir)
	for wait := time.Millisecond; errors.Is(err, unix.EBUSY) && wait < 200*time.Millisecond; wait *= 2 {
		time.Sleep(wait) //nolint:forbidigo // nobody tells when it is
		err = remove(dir)
	}
	return err
}

// remove removes a group with those that the container may have made in it.
func remove(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

// integer reads a file of one number; 0 when there is none.
func integer(name string) int64 {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// value reads a key of a file of lines KEY VALUE; 0 when there is none.
func value(name, key string) int64 {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
