package storage

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus" //nolint:depguard // to silence the libraries, which log
	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/pkg/reexec"
	"golang.org/x/sys/unix"
)

// Reexecuted runs the step of unpacking that argv[0] names, when this process is one, and says whether it did.
func Reexecuted() bool { return reexec.Init() }

// ErrOutside says that the process is not root of a user namespace.
var ErrOutside = errors.New("not inside a user namespace")

// Prepare tells the storage and image libraries, through their environment, that the user namespace is there already (without cgo they
// would execute the program again for ever) and whose it is, and keeps them from reading storage.conf, which is about another
// program's store. It comes before everything else in the engine's life.
func Prepare() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("cannot run the engine as user %d: %w", os.Geteuid(), ErrOutside)
	}
	uid, err := outsideID("/proc/self/uid_map")
	if err != nil {
		return err
	}
	gid, err := outsideID("/proc/self/gid_map")
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"_CONTAINERS_USERNS_CONFIGURED": "done",
		"_CONTAINERS_ROOTLESS_UID":      strconv.Itoa(uid),
		"_CONTAINERS_ROOTLESS_GID":      strconv.Itoa(gid),
		"CONTAINERS_STORAGE_CONF":       os.DevNull,
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("cannot set %s: %w", name, err)
		}
	}
	unset := []string{"STORAGE_DRIVER", "STORAGE_OPTS"}
	if os.Getenv("XDG_CONFIG_HOME") == "" { // set and empty would be the working directory to them
		unset = append(unset, "XDG_CONFIG_HOME")
	}
	for _, name := range unset {
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("cannot unset %s: %w", name, err)
		}
	}
	unix.Umask(0o022) // the modes in layers are the archives', not the user's
	logrus.SetLevel(logrus.FatalLevel)
	return nil
}

// NoConfigFile says whether an error of the libraries is that a configuration file is nowhere to be found.
func NoConfigFile(err error) bool { return errors.Is(err, configfile.ErrConfigFileNotFound) }

// Debug makes the libraries say on standard error what they do.
func Debug() { logrus.SetLevel(logrus.DebugLevel) }

// outsideID is what id 0 is outside the user namespace.
func outsideID(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the id map: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) == 3 && w[0] == "0" {
			id, err := strconv.Atoi(w[1])
			if err != nil {
				return 0, fmt.Errorf("cannot read the id map: %w", err)
			}
			return id, nil
		}
	}
	return 0, fmt.Errorf("cannot read the id map: id 0 is not mapped: %w", ErrOutside)
}

// Owner is the id, outside the user namespace, of the user whose store it is.
func Owner() int {
	uid, err := outsideID("/proc/self/uid_map")
	if err != nil {
		return os.Getuid()
	}
	return uid
}
