package monitor

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/layer"
	"github.com/skiff-containers/skiff/storage/record"
)

// The end of a life of the container, and the last one: what is given back, in which order, and what is told.

// conclude is the end of the container's last life. State first, then the answers: whoever hears of the end finds it on disk, and can start, remove or name another
// one the same at once.
func (m *monitor) conclude(exit record.Exit) int {
	m.renewed(m.notRunning())
	early := m.record.Config.Remove && m.layer.Detached && m.native() // nothing of it is mounted by a path, which retiring changes
	var err error
	if early {
		m.unwatchNIC()
		m.nic.release()
		m.endOOM()
		err = m.retire(exit)
		m.unpublish()
	} else {
		err = m.finish(exit)
	}
	m.answer(exit.Code, true)
	if early {
		err = errors.Join(err, m.free(&exit))
		m.release()
		err = errors.Join(err, m.store.Release(m.record.ID))
	}
	if m.record.Config.Remove {
		err = errors.Join(err, m.store.DeleteRetired(m.record.ID, layer.Delete))
	}
	if err != nil {
		return codeOurs
	}
	return 0
}

// unpublish frees the ports, ahead of all that free does: whoever hears of the end can publish them again.
func (m *monitor) unpublish() {
	if m.network == nil || len(m.network.asked) == 0 {
		return
	}
	if m.unwatch != nil {
		m.unwatch()
	}
	m.network.end()
	m.sockets.Close()
}

// native says that the container is one of our own runtime, which leaves nothing to delete.
func (m *monitor) native() bool {
	c := m.record.Config
	return c.Runtime == "" || c.Runtime == "skiff"
}

// discard ends a container that is not to run.
func (m *monitor) discard() error {
	err := m.container.Signal(unix.SIGKILL)
	m.process.wait(0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it ended with the failed execve
	}
	return err
}

// finish frees everything but the record and writes the end down.
func (m *monitor) finish(exit record.Exit) error {
	id := m.record.ID
	err := m.free(&exit)
	m.release()
	if m.record.Config.Remove {
		return errors.Join(err, m.retire(exit), m.store.Release(id))
	}
	err = errors.Join(err, m.store.WriteExit(id, exit, m.sync))
	if exit.Error == "" {
		m.emit("die", exitCode(exit.Code))
	}
	return errors.Join(err, m.store.Release(id))
}

// retire takes a --rm container's record, name and anonymous volumes away. Its files are deleted later.
func (m *monitor) retire(exit record.Exit) error {
	err := errors.Join(m.removeAnonymous(), m.store.Retire(m.record.ID))
	if exit.Error == "" {
		m.emit("die", exitCode(exit.Code))
	}
	m.emit("destroy", nil)
	return err
}

// settle gives up a container whose end is on disk already and that was to live again.
func (m *monitor) settle() error {
	id := m.record.ID
	if !m.record.Config.Remove {
		return m.store.Release(id)
	}
	err := errors.Join(m.removeAnonymous(), m.store.Retire(id))
	m.emit("destroy", nil)
	return errors.Join(err, m.store.Release(id), m.store.DeleteRetired(id, layer.Delete))
}

func exitCode(code int) map[string]string { return map[string]string{"exitCode": strconv.Itoa(code)} }

// free gives back what the life of the container held, and notes what the control group knows of its end.
func (m *monitor) free(exit *record.Exit) error {
	var errs []error
	if m.unwatch != nil {
		m.unwatch()
		m.unwatch = nil
		m.nic.await()
	}
	if m.network != nil {
		errs = append(errs, m.network.close())
		m.space = m.network.keep(m.space)
		m.network = nil
	}
	m.user.close()
	m.user = nil
	m.endGathered()
	if m.container != nil {
		errs = append(errs, m.container.Delete())
		m.container = nil
	}
	if m.log != nil {
		errs = append(errs, m.log.Close())
		m.log = nil
	}
	if m.layer != nil {
		errs = append(errs, m.layer.Close())
		m.layer = nil
	}
	if m.endOOM() {
		exit.OOMKilled = true
	}
	m.oom.told = 0
	for _, f := range m.keep {
		f.Close()
	}
	m.keep = nil
	m.mu.Lock()
	group := m.group
	m.group, m.now = nil, nil
	m.mu.Unlock()
	if group != nil {
		errs = append(errs, group.Kill(), group.Delete())
	}
	return errors.Join(errs...)
}

// release gives up what is kept from life to life, the interface on a bridge of the host's and the ports: there is no next life.
func (m *monitor) release() {
	m.nic.release()
	m.nic = nil
	m.sockets.Close()
}
