package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/plain"
)

// Status derives a container's state from its files and its lock. Whoever visits (ClaimVisit) does not make it run.
func (s *Store) Status(id string) (Status, error) {
	dir := s.Dir(id)
	var st Status
	alive, err := disk.Lives(filepath.Join(s.RunDir(id), AliveFile))
	if err != nil {
		return st, err
	}
	started, exit := &Started{}, &Exit{}
	hasStarted, err := readJSON(filepath.Join(dir, startedFile), started)
	if err != nil {
		return st, corrupt(id, err)
	}
	hasExit, err := readJSON(filepath.Join(dir, exitFile), exit)
	if err != nil {
		return st, corrupt(id, err)
	}
	if hasStarted {
		st.Started = started
	}
	if hasExit {
		st.Exit = exit
	}
	over := hasExit && (!hasStarted || exit.Life >= started.Life)
	switch {
	case over:
		// Its monitor may hold the lock a moment longer; what it has written is what counts.
		st.State = Exited
		if alive {
			if again, err := s.mark(id, restartingFile); err != nil || again {
				st.State = Restarting
			}
		}
	case alive && hasStarted:
		st.State = Running
		if paused, err := s.Paused(id); err != nil || paused {
			st.State = Paused
		}
	case !hasStarted:
		st.State = Created
	default:
		if alive, err = disk.Lives(filepath.Join(s.RunDir(id), AliveFile)); err != nil {
			return st, err
		}
		if alive {
			return s.Status(id) // a life has begun since we asked
		}
		st.State = Lost
		st.Exit = &Exit{Life: started.Life, Code: 255, At: started.At, Error: "its monitor was killed, or the machine went down; what became of the process is not known"}
	}
	if st.State == Exited && exit.Error != "" && !hasStarted {
		st.State = Created // it never ran; the error says why
	}
	return st, nil
}

func readJSON(file string, v any) (bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = plain.Unmarshal(data, v)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	return true, nil
}

// ClaimAlive makes the runtime directory of a container and takes its alive lock, which the monitor holds for as long as it lives.
// disk.ErrLocked says that another monitor lives, or that somebody visits.
func (s *Store) ClaimAlive(id string) (*disk.Lock, error) { return s.hold(id, disk.Exclusive) }

// ClaimVisit is ClaimAlive for whoever has work with a container that does not run, and keeps it from being started meanwhile.
func (s *Store) ClaimVisit(id string) (*disk.Lock, error) { return s.hold(id, disk.Visit) }

func (s *Store) hold(id string, mode disk.Mode) (*disk.Lock, error) {
	dir := s.RunDir(id)
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cannot make the runtime directory: %w", err)
		}
		lock, err := disk.TryLock(filepath.Join(dir, AliveFile), mode)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue // an ending monitor removed the directory
			}
			return nil, err
		}
		// The file we locked must still be the one in the directory.
		mine, err1 := lock.File().Stat()
		there, err2 := os.Stat(filepath.Join(dir, AliveFile))
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return lock, nil
		}
		if err := lock.Unlock(); err != nil {
			return nil, err
		}
	}
}

// Release removes the runtime directory; the holder of the alive lock calls it, before it lets the lock go. The directory goes in one step: whoever comes next would
// otherwise find a part of it, and lose what it puts there.
func (s *Store) Release(id string) error {
	dir := s.RunDir(id)
	gone := filepath.Join(s.Run, releasedPrefix+filepath.Base(dir))
	err := os.Rename(dir, gone)
	if errors.Is(err, os.ErrExist) || errors.Is(err, unix.ENOTEMPTY) { // of a process that was killed here
		if err = os.RemoveAll(gone); err == nil {
			err = os.Rename(dir, gone)
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

// SweepReleased removes runtime directories whose remover was killed, and those of engines that were. Nobody uses them any more.
func (s *Store) SweepReleased() error {
	left, err := filepath.Glob(filepath.Join(s.Run, releasedPrefix+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	engines, globErr := filepath.Glob(filepath.Join(s.Run, EnginePrefix+"*"))
	for _, dir := range engines {
		if alive, lockErr := disk.Locked(filepath.Join(dir, AliveFile)); lockErr == nil && !alive {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return errors.Join(err, globErr)
}

// Orphans are the beginnings of the ids of containers that are no more and whose monitor was killed before it had removed the runtime directory. Release takes them.
func (s *Store) Orphans() ([]string, error) {
	entries, err := os.ReadDir(s.Run)
	if err != nil {
		return nil, fmt.Errorf("cannot sweep: %w", err)
	}
	ids, err := s.ids() // after the look at the directories: whoever has one has had a record before
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		known[filepath.Base(s.RunDir(id))] = true
	}
	var left []string
	for _, e := range entries {
		if len(e.Name()) != runDigits || !isHex(e.Name()) || known[e.Name()] {
			continue
		}
		if alive, err := s.Alive(e.Name()); err == nil && !alive {
			left = append(left, e.Name())
		}
	}
	return left, nil
}

// Alive says whether a monitor of the container lives, or somebody visits it.
func (s *Store) Alive(id string) (bool, error) {
	return disk.Locked(filepath.Join(s.RunDir(id), AliveFile))
}

// Announce writes the monitor's pid file, by which others find it and its user namespace.
func (s *Store) Announce(id string, pid int, userns uint64) error {
	data := fmt.Appendf(nil, `{"pid":%d,"userns":%d}`, pid, userns)
	return disk.WriteFile(filepath.Join(s.RunDir(id), pidFile), data, 0o600, disk.Volatile)
}

// NoteGroup notes in the runtime directory a control group that the monitor is about to make: should that be killed, somebody else can end it.
func (s *Store) NoteGroup(id, dir string) error {
	f, err := os.OpenFile(filepath.Join(s.RunDir(id), groupsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(dir + "\n")
	return errors.Join(err, f.Close())
}

// Groups are the control groups that a monitor has noted: what is there when nobody lives in the runtime directory was left by one that was killed.
func (s *Store) Groups(id string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(s.RunDir(id), groupsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), err
}

// ForgetGroups says that they have been ended.
func (s *Store) ForgetGroups(id string) error {
	err := os.Remove(filepath.Join(s.RunDir(id), groupsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Paused says whether the container's processes were stopped; it is asked only of one that lives.
func (s *Store) Paused(id string) (bool, error) { return s.mark(id, pausedFile) }

// SetPaused notes in the runtime directory, which goes with the container's life, that its processes are stopped, or that they go on.
func (s *Store) SetPaused(id string, paused bool) error { return s.setMark(id, pausedFile, paused) }

// SetRestarting notes that the monitor of a container that has ended is going to start it again, or that it does not any more.
func (s *Store) SetRestarting(id string, again bool) error {
	return s.setMark(id, restartingFile, again)
}

func (s *Store) mark(id, file string) (bool, error) {
	_, err := os.Stat(filepath.Join(s.RunDir(id), file))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) setMark(id, file string, set bool) error {
	name := filepath.Join(s.RunDir(id), file)
	if set {
		return disk.WriteFile(name, nil, 0o600, disk.Volatile)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// NextLife is the number of the life that is about to begin.
func (s *Store) NextLife(id string) (int, error) {
	life := 1
	var started Started
	var exit Exit
	if ok, err := readJSON(filepath.Join(s.Dir(id), startedFile), &started); err != nil {
		return 0, corrupt(id, err)
	} else if ok {
		life = started.Life + 1
	}
	if ok, err := readJSON(filepath.Join(s.Dir(id), exitFile), &exit); err != nil {
		return 0, corrupt(id, err)
	} else if ok {
		life = max(life, exit.Life+1)
	}
	return life, nil
}

// WriteStarted and WriteExit write the files of one life.
func (s *Store) WriteStarted(id string, v Started, sync disk.Sync) error {
	if sync == disk.Durable { // others are removed at their end
		if err := s.reserve(id); err != nil {
			return err
		}
	}
	return s.writeJSON(id, startedFile, v, sync)
}

// WriteExit writes the end of a life, on a full disk into the room that was reserved for it when that life began.
func (s *Store) WriteExit(id string, v Exit, sync disk.Sync) error {
	err := s.writeJSON(id, exitFile, v, sync)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if s.useReserve(id, v) == nil {
			return nil
		}
	}
	return err
}

// exitRoom is how many bytes are reserved for the end of a life: more than it ever has.
const exitRoom = 1024

// reserve makes room for the end of a life, unless that of the life before is still there.
func (s *Store) reserve(id string) error {
	name := filepath.Join(s.Dir(id), reserveFile)
	if st, err := os.Stat(name); err == nil && st.Size() == exitRoom {
		return nil
	}
	return disk.WriteFile(name, make([]byte, exitRoom), 0o600, disk.Volatile)
}

// useReserve writes the end of a life in the reserved room: the bytes have their block, and a name in its directory is changed, not added.
func (s *Store) useReserve(id string, v Exit) error {
	name := filepath.Join(s.Dir(id), reserveFile)
	data, err := plain.Marshal(v)
	if err != nil || len(data) > exitRoom {
		return errors.Join(err, unix.ENOSPC)
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Truncate(int64(len(data))), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(name, filepath.Join(s.Dir(id), exitFile))
}

// WriteHealth writes what the health checks found; it is read again only by whoever looks.
func (s *Store) WriteHealth(id string, v Health) error {
	return s.writeJSON(id, healthFile, v, disk.Volatile)
}

// Health gives what the health checks of the container's last life found; nil when there were none.
func (s *Store) Health(id string) (*Health, error) {
	h := &Health{}
	ok, err := readJSON(filepath.Join(s.Dir(id), healthFile), h)
	if err != nil {
		return nil, corrupt(id, err)
	}
	if !ok {
		return nil, nil
	}
	return h, nil
}

func (s *Store) writeJSON(id, name string, v any, sync disk.Sync) error {
	data, err := plain.Marshal(v)
	if err != nil {
		return err
	}
	return disk.WriteFile(filepath.Join(s.Dir(id), name), data, 0o600, sync)
}
