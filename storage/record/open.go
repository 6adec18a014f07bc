package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// Options say where the state is; empty fields follow the XDG rules.
type Options struct {
	Root, RunRoot string
	Getenv        func(string) string
	Getuid        func() int
}

// The names of everything in the two directories.
const (
	containersDir = "containers"
	namesDir      = "names"
	eventsFile    = "events"
	configFile    = "config.json"
	startedFile   = "started"
	exitFile      = "exit"
	nameFile      = "name"
	makingPrefix  = "tmp-"
	retiredPrefix = "rm-"
	withVolumes   = "v-" // after retiredPrefix: the anonymous volumes go too
	promisedFile  = "volumes"
	AliveFile     = "alive"
	pidFile       = "pid"
	pausedFile    = "paused"
	// EnginePrefix begins the names of runtime directories of engines that others may join.
	EnginePrefix   = "engine-"
	runRootFile    = "runroot"      // where the runtime directory is
	reserveFile    = "exit-reserve" // room for the file exit on a full disk
	updatingFile   = "updating"     // lock of Update
	restartingFile = "restarting"
	// groupsFile lists the control groups that the monitor has made, a line each.
	groupsFile     = "groups"
	releasedPrefix = "gone-" // of a runtime directory that is being removed
	healthFile     = "health"
	// Socket is the monitor's control socket in RunDir.
	Socket = "ctl.sock"
	// Bundle, Layer and Log are a container's own directories and file beside config.json.
	Bundle = "bundle"
	Layer  = "layer"
	Log    = "log"
)

// Open finds (and makes) the two directories. It refuses a runtime directory that another user owns.
func Open(o Options) (*Store, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Getuid == nil {
		o.Getuid = os.Getuid
	}
	data := o.Root
	if data == "" {
		base := o.Getenv("XDG_DATA_HOME")
		if !filepath.IsAbs(base) {
			home := o.Getenv("HOME")
			if !filepath.IsAbs(home) {
				return nil, errors.New("cannot find the data directory: neither HOME nor XDG_DATA_HOME is set; set one, or name a directory with --root")
			}
			base = filepath.Join(home, ".local/share")
		}
		data = filepath.Join(base, "skiff")
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, fmt.Errorf("cannot find the data directory: %w", err)
	}
	if err := makeDir(filepath.Join(data, containersDir)); err != nil {
		return nil, fmt.Errorf("cannot use the data directory %s: %w; name another with --root", data, bare(err))
	}
	if err := makeDir(filepath.Join(data, namesDir)); err != nil {
		return nil, fmt.Errorf("cannot use the data directory %s: %w; name another with --root", data, bare(err))
	}
	boot, err := disk.BootID()
	if err != nil {
		return nil, err
	}
	run, err := runRootOf(o, data, boot)
	if err != nil {
		return nil, err
	}
	s := &Store{Data: data, Run: filepath.Join(run, boot)}
	if _, err := os.Lstat(s.Run); errors.Is(err, os.ErrNotExist) {
		if err := s.retireFleeting(boot); err != nil {
			return nil, err
		}
	}
	if err := makeDir(s.Run); err != nil {
		return nil, fmt.Errorf("cannot use the runtime directory %s: %w; name another with --runroot", s.Run, bare(err))
	}
	return s, nil
}

// runRootOf is the runtime directory of a data directory: what was asked, else the one it was last used with for as long as that is there. A command without XDG_RUNTIME_DIR (of cron, by
// sudo) would otherwise not see the locks of what runs, and take it for lost.
func runRootOf(o Options, data, boot string) (string, error) {
	file := filepath.Join(data, runRootFile)
	last, err := os.ReadFile(file)
	if o.RunRoot == "" && err == nil {
		if st, err := os.Lstat(filepath.Join(string(last), boot)); err == nil && ours(st, o.Getuid()) && st.Mode().Perm()&0o077 == 0 {
			return string(last), nil
		}
	}
	run, err := runRoot(o)
	if err == nil && o.RunRoot == "" && run != string(last) {
		_ = disk.WriteFile(file, []byte(run), 0o600, disk.Volatile) // where nothing can be written nothing is started
	}
	return run, err
}

// runRoot is the runtime directory without its boot: what was asked, XDG_RUNTIME_DIR's, or one of our own under /tmp, which must be ours alone.
func runRoot(o Options) (string, error) {
	if o.RunRoot != "" {
		return filepath.Abs(o.RunRoot)
	}
	uid := o.Getuid()
	if xdg := o.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		if st, err := os.Stat(xdg); err == nil && ours(st, uid) && unix.Access(xdg, unix.W_OK) == nil {
			return filepath.Join(xdg, "skiff"), nil
		}
	}
	dir := "/tmp/skiff-" + strconv.Itoa(uid)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("cannot make the runtime directory %s: %w; set XDG_RUNTIME_DIR or name one with --runroot", dir, bare(err))
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("cannot use the runtime directory %s: %w", dir, bare(err))
	}
	if !ours(st, uid) || st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("cannot use the runtime directory %s: it must be a directory of uid %d with mode 0700; set XDG_RUNTIME_DIR or name one with --runroot", dir, uid)
	}
	return dir, nil
}

// ours says whether a directory belongs to the user, and not to the one that sudo or su came from, whose XDG_RUNTIME_DIR is often still in the environment.
// Inside the user namespace the user is another number than outside; either will do.
func ours(st os.FileInfo, uid int) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && st.IsDir() && (int(sys.Uid) == uid || int(sys.Uid) == os.Getuid())
}

// makeDir makes a private directory with its parents; one that is there costs one system call.
func makeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return errors.New("it is not a directory")
		}
		return nil
	}
	return os.MkdirAll(dir, 0o700)
}

// bare drops the path that an error repeats.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
