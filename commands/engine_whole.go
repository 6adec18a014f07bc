//go:build !front

package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/netns/dhcp"
	netswitch "github.com/skiff-containers/skiff/netns/switch"
	"github.com/skiff-containers/skiff/run/cdi"
	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/run/userns"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

// engineCommands are the engine's verbs with all that they do.
func engineCommands() []*cli.Command {
	var list []*cli.Command
	for _, v := range heavyVerbs() {
		cmd := v.command()
		switch v.name {
		case "build":
			buildCommand(cmd)
		case "commit":
			commitCommand(cmd)
		case "builder du":
			builderDuCommand(cmd)
		case "builder prune":
			builderPruneCommand(cmd)
		case "cp":
			cpCommand(cmd)
		case "export":
			exportCommand(cmd)
		case "import":
			importCommand(cmd)
		case "load":
			loadCommand(cmd)
		case "login":
			loginCommand(cmd)
		case "logout":
			logoutCommand(cmd)
		case "pull":
			pullCommand(cmd)
		case "push":
			pushCommand(cmd)
		case "rmi":
			rmiCommand(cmd)
		case "save":
			saveCommand(cmd)
		case "search":
			searchCommand(cmd)
		case "tag":
			tagCommand(cmd)
		case "system df":
			systemDfCommand(cmd)
		case "system prune":
			systemPruneCommand(cmd)
		case "image prune":
			imagePruneCommand(cmd)
		case "image reindex":
			reindexCommand(cmd)
		}
		list = append(list, cmd)
	}
	return list
}

// enginePath is the executable that knows the engine's verbs: this one.
func enginePath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find skiff's own executable: %w", err)
	}
	return self, nil
}

// Reexecuted runs the step of the storage library that argv[0] names, if it names one (unpacking happens in a child with the layer as its
// root), and says whether it did. It comes first in main.
func Reexecuted() bool { return storage.Reexecuted() }

// SwitchMain is the life of the network switch, inside the user namespace.
func SwitchMain(args []string) int { return netswitch.Main(args) }

// DevicesMain finds devices for a monitor (run/stage).
func DevicesMain(names []string, s Streams) int {
	var answer stage.DevicesAnswer
	devices, err := cdi.Open(cdi.Dirs(os.Getenv))
	if err == nil {
		answer.Edits, err = devices.Resolve(names)
	}
	if err != nil {
		answer = stage.DevicesAnswer{Error: err.Error(), Hint: hintOf(err)}
	}
	if err := json.NewEncoder(s.Out).Encode(answer); err != nil {
		return report(s.Err, "", err)
	}
	return 0
}

// DHCPMain answers a monitor's question about an address (run/stage).
func DHCPMain(s Streams) int {
	var q stage.LeaseQuestion
	if err := json.NewDecoder(s.In).Decode(&q); err != nil {
		return report(s.Err, "", err)
	}
	space, before := os.NewFile(3, "network namespace"), (*os.File)(nil)
	if q.Moves {
		before = os.NewFile(4, "network namespace before")
	}
	if err := json.NewEncoder(s.Out).Encode(dhcp.Serve(context.Background(), q, space, before)); err != nil {
		return report(s.Err, "", err)
	}
	return 0
}

// EngineMain runs an engine's command line inside the user namespace and returns the exit code.
func EngineMain(ctx context.Context, args []string, s Streams) int {
	if err := storage.Prepare(); err != nil && !asksForHelp(args) { // help is read outside as well
		return report(s.Err, "", err)
	}
	if dir := os.Getenv(memberVariable); dir != "" {
		leave, err := announce(&record.Store{Run: dir})
		if err != nil {
			return report(s.Err, "", err)
		}
		defer leave()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		if sig, ok := (<-signals).(unix.Signal); ok {
			cancel(signalCause(sig))
			<-signals // the second one does not wait for cleaning up; what is left is swept by the next engine
			os.Exit(128 + int(sig))
		}
	}()
	whenCallerEnds(func() { cancel(errCallerGone) })
	return interrupted(ctx, Main(ctx, Engine, args, s))
}

// memberLock is the descriptor with which an engine that is a member is started: the lock of the user namespace, held until it can be found.
const memberLock = 3

// announce makes this engine findable as a member of the user namespace, until leave is called.
func announce(records *record.Store) (leave func(), err error) {
	if err := os.Unsetenv(memberVariable); err != nil {
		return nil, err
	}
	lock := disk.Adopt(os.NewFile(memberLock, "userns.lock"))
	unix.CloseOnExec(memberLock)
	id := fmt.Sprintf("%s%08x", record.EnginePrefix, os.Getpid())
	alive, err := records.ClaimAlive(id)
	if err != nil {
		return nil, err
	}
	ns, err := userns.Own()
	if err == nil {
		err = records.Announce(id, os.Getpid(), ns)
	}
	if err = errors.Join(err, lock.Unlock()); err != nil {
		return nil, err
	}
	return func() {
		_ = records.Release(id) // whoever comes next sweeps what stays
		_ = alive.Unlock()      // it goes with us
	}, nil
}

// signalCause is why a context was cancelled.
type signalCause unix.Signal

func (s signalCause) Error() string { return "received signal " + unix.SignalName(unix.Signal(s)) }
